package planfile

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// fingerprint stands for the types that a plan is made of: their fields, and the
// types of these. A field that comes, goes or changes gives another one, and a
// plan that was written without a field is not taken for one in which it is 0.
var fingerprint = sync.OnceValue(func() string {
	var b strings.Builder
	describe(&b, reflect.TypeFor[plan.Plan]())
	return checksum([]byte(b.String()))[:16]
})

// describe writes what a type is made of. Types of other packages, which say
// themselves how they are encoded, are written by their names.
func describe(b *strings.Builder, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
		b.WriteString(t.Kind().String() + " ")
		describe(b, t.Elem())
	case t.Kind() == reflect.Array:
		fmt.Fprintf(b, "%d ", t.Len())
		describe(b, t.Elem())
	case t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[plan.Plan]().PkgPath():
		b.WriteString(t.Name() + "{")
		for i := range t.NumField() {
			b.WriteString(t.Field(i).Name + " ")
			describe(b, t.Field(i).Type)
			b.WriteString(";")
		}
		b.WriteString("}")
	default:
		fmt.Fprintf(b, "%s %s", t, t.Kind())
	}
}
