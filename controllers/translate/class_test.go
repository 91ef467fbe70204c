package translate

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// Each route is one installation's: that of its class, which for a route that names
// none is the class that it would have if all were ours.
func TestTheRoutesOfAClassAreThoseThatHaveItAmongAllClasses(t *testing.T) {
	class := func(name string, age int64, isDefault bool) *v1alpha1.ProxyClass {
		c := &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1_800_000_000-age, 0))}}
		if isDefault {
			c.Annotations = map[string]string{v1alpha1.DefaultClassAnnotation: "true"}
		}
		return c
	}
	route := func(class string) *v1alpha1.ProxyRoute {
		r := &v1alpha1.ProxyRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "of-" + class}}
		if class != "-" {
			r.Spec.ClassName = &class
		}
		return r
	}
	routes := []*v1alpha1.ProxyRoute{route("a"), route("b"), route("c"), route(""), route("-")}
	for name, c := range map[string]struct {
		classes []*v1alpha1.ProxyClass
		ours    string
		routes  string // by the classes that they name
		kept    string
	}{
		"no filter":                      {[]*v1alpha1.ProxyClass{class("a", 1, false), class("b", 1, false)}, "", "a b c  -", "a b"},
		"no default":                     {[]*v1alpha1.ProxyClass{class("a", 1, false), class("b", 1, false)}, "a", "a", "a"},
		"the default is ours":            {[]*v1alpha1.ProxyClass{class("a", 1, true), class("b", 1, false)}, "a", "a  -", "a"},
		"the default is not":             {[]*v1alpha1.ProxyClass{class("a", 1, false), class("b", 1, true)}, "a", "a", "a"},
		"the oldest default counts":      {[]*v1alpha1.ProxyClass{class("a", 1, true), class("b", 2, true)}, "a", "a", "a"},
		"the only class is ours":         {[]*v1alpha1.ProxyClass{class("a", 1, false)}, "a", "a  -", "a"},
		"the only class is not":          {[]*v1alpha1.ProxyClass{class("b", 1, false)}, "a", "a", ""},
		"ours are two, one is not there": {[]*v1alpha1.ProxyClass{class("a", 1, true), class("b", 1, false)}, "b c", "b c", "b"},
		"no class":                       {nil, "a", "a", ""},
	} {
		s := Snapshot{Routes: routes, Classes: c.classes}.OfClasses(strings.Fields(c.ours))
		var got []string
		for _, r := range s.Routes {
			got = append(got, strings.TrimPrefix(r.Name, "of-"))
		}
		if strings.Join(got, " ") != c.routes {
			t.Errorf("%s: the routes of %q, want %q", name, got, c.routes)
		}
		kept := slices.Sorted(maps.Keys(Build(s).Verdicts.Classes))
		if strings.Join(kept, " ") != c.kept {
			t.Errorf("%s: the classes %q, want %q", name, kept, c.kept)
		}
		for _, r := range s.Routes {
			accepted := Build(s).Verdicts.Routes[nameOf(r)].Condition(v1alpha1.ConditionAccepted)
			if r.Spec.ClassName == nil && c.ours != "" && accepted.Reason == v1alpha1.ReasonNoClass {
				t.Errorf("%s: a route that names no class: %s", name, accepted.Message)
			}
		}
	}
}
