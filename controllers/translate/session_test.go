package translate

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

func TestSessionKeysDependOnSecretUIDRouteAndRuleAndNothingElse(t *testing.T) {
	key := func(secret, uid, ns, route, rule string, change func(*v1alpha1.ProxyRoute)) [32]byte {
		o := &v1alpha1.ProxyRoute{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Namespace: ns, Name: route}}
		if change != nil {
			change(o)
		}
		s, err := session(&v1alpha1.SessionPersistence{}, o, rule, secret)
		if err != nil {
			t.Fatal(err)
		}
		return s.Key
	}
	base := key("s", "u", "shop", "web", "api", nil)
	if base == ([32]byte{}) {
		t.Fatal("the key is zero")
	}
	for what, other := range map[string][32]byte{
		"another secret":            key("t", "u", "shop", "web", "api", nil),
		"no secret":                 key("", "u", "shop", "web", "api", nil),
		"another UID":               key("s", "v", "shop", "web", "api", nil),
		"another namespace":         key("s", "u", "shop2", "web", "api", nil),
		"another route":             key("s", "u", "shop", "web2", "api", nil),
		"another rule":              key("s", "u", "shop", "web", "api2", nil),
		"the same text, cut anew":   key("s", "u", "shopw", "eb", "api", nil),
		"secret and UID, cut anew":  key("su", "", "shop", "web", "api", nil),
		"a separator in the values": key("s", "u", "shop/web", "", "api", nil),
	} {
		if other == base {
			t.Errorf("%s: the same key", what)
		}
	}
	// All replicas must agree, whichever version of the object they see.
	same := key("s", "u", "shop", "web", "api", func(o *v1alpha1.ProxyRoute) {
		o.Generation, o.ResourceVersion, o.Labels = 7, "9", map[string]string{"a": "b"}
	})
	if same != base {
		t.Error("another version of the route has another key")
	}
}
