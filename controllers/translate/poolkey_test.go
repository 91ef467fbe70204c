package translate

import (
	"reflect"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// A field that is added to plan.Policy and not to its order would make the order
// of the pools, and of what is found by it, depend on that of a map.
func TestPoolKeysThatDifferInAnyFieldHaveAnOrder(t *testing.T) {
	var fields int
	var visit func(v reflect.Value, path string, check func(path string))
	visit = func(v reflect.Value, path string, check func(string)) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				visit(v.Field(i), path+"."+v.Type().Field(i).Name, check)
			}
			return
		case reflect.Array:
			for i := range v.Len() {
				visit(v.Index(i), path, check)
			}
			return
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			v.SetUint(1)
		case reflect.Int64:
			v.SetInt(1)
		default:
			t.Fatalf("%s is a %s, which this test does not know", path, v.Kind())
		}
		check(path)
		fields++
		v.SetZero()
	}
	var zero, key plan.PoolKey
	visit(reflect.ValueOf(&key).Elem(), "PoolKey", func(path string) {
		if a, b := comparePoolKeys(zero, key), comparePoolKeys(key, zero); a >= 0 || b <= 0 {
			t.Errorf("%s: compared %d and %d, want the zero value first", path, a, b)
		}
		if c := comparePoolKeys(key, key); c != 0 {
			t.Errorf("%s: a key is %d against itself", path, c)
		}
	})
	if fields < 40 {
		t.Errorf("only %d fields were looked at", fields)
	}
}
