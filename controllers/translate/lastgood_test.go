package translate

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// keeping is a Builder that keeps last good rules, and the objects that it is
// given: a route with the rules "a" and "b" to Services of other namespaces.
type keeping struct {
	t    *testing.T
	b    Builder
	last Result
	Snapshot
}

func newKeeping(t *testing.T) *keeping {
	k := &keeping{t: t, b: Builder{KeepLastGood: true}}
	k.Classes = []*v1alpha1.ProxyClass{{ObjectMeta: metav1.ObjectMeta{Name: "ferrum"}}}
	for _, ns := range []string{"one", "two"} {
		k.Services = append(k.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "app"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		})
		grant := &gatewayv1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "all"}}
		grant.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: v1alpha1.GroupName, Kind: "ProxyRoute", Namespace: "web"}}
		grant.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}
		k.Grants = append(k.Grants, grant)
	}
	k.Routes = []*v1alpha1.ProxyRoute{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "site", UID: "1"},
		Spec: v1alpha1.ProxyRouteSpec{Hostnames: []v1alpha1.Hostname{"a.example.com"}, Rules: []v1alpha1.RouteRule{
			regexRule("a", "/a.*", "one"), regexRule("b", "/b.*", "two"),
		}},
	}}
	k.want("a=/a.*→one b=/b.*→two", "", "True/Accepted")
	return k
}

func regexRule(name, regex, service string) v1alpha1.RouteRule {
	return v1alpha1.RouteRule{
		Name:        name,
		Matches:     []v1alpha1.RouteMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegularExpression, Value: regex}}},
		BackendRefs: []v1alpha1.BackendRef{{Namespace: &service, Name: "app", Port: intstr.FromInt32(80)}},
	}
}

// edit gives the route as a new version.
func (k *keeping) edit(f func(*v1alpha1.ProxyRoute)) {
	r := k.Routes[0].DeepCopy()
	f(r)
	k.Routes = []*v1alpha1.ProxyRoute{r}
}

// want builds and checks what the rules are, which are held, and Accepted.
func (k *keeping) want(rules, held, accepted string) {
	k.t.Helper()
	k.last = k.b.Build(k.Snapshot)
	var got []string
	for _, r := range k.last.Plan.Routes {
		for _, rule := range r.Rules {
			s := rule.Name + "=" + rule.Matches[0].Path.Value
			switch {
			case rule.Invalid != "":
				s += "→500"
			case rule.Legs[0].Invalid != "":
				s += "→leg 500"
			default:
				s += "→" + rule.Legs[0].Pool.Namespace
			}
			got = append(got, s)
		}
	}
	if s := strings.Join(got, " "); s != rules {
		k.t.Errorf("the rules are %q, want %q", s, rules)
	}
	v := k.last.Verdicts.Routes[types.NamespacedName{Namespace: "web", Name: "site"}]
	if s := strings.Join(v.Held, " "); s != held {
		k.t.Errorf("held are %q, want %q", s, held)
	}
	if c := v.Condition(v1alpha1.ConditionAccepted); fmt.Sprintf("%s/%s", c.Status, c.Reason) != accepted {
		k.t.Errorf("%s/%s %s, want %s", c.Status, c.Reason, c.Message, accepted)
	}
}

func TestARuleThatCannotBeCompiledAnyMoreIsServedAsItWas(t *testing.T) {
	k := newKeeping(t)
	k.edit(func(r *v1alpha1.ProxyRoute) {
		r.Spec.Rules[0] = regexRule("a", "/a(", "two")
		r.Spec.Rules[1] = regexRule("b", "/bb.*", "two")
	})
	k.want("a=/a.*→one b=/bb.*→two", "a", "True/PartiallyInvalid")
	v := k.last.Verdicts.Routes[types.NamespacedName{Namespace: "web", Name: "site"}]
	if c := v.Condition(v1alpha1.ConditionAccepted); !strings.Contains(c.Message, `Served as they were last good: "a".`) || !v.Served {
		t.Errorf("served: %v, %s", v.Served, c.Message)
	}
	pointer := k.last.Plan.Routes[0]
	k.edit(func(*v1alpha1.ProxyRoute) {})
	k.want("a=/a.*→one b=/bb.*→two", "a", "True/PartiallyInvalid")
	if k.last.Plan.Routes[0] != pointer {
		t.Error("a route that comes out the same is another one")
	}
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[1] = regexRule("b", "/b(", "two") })
	k.want("a=/a.*→one b=/bb.*→two", "a b", "False/InvalidRule")
	if v := k.last.Verdicts.Routes[types.NamespacedName{Namespace: "web", Name: "site"}]; !v.Served || len(v.Hostnames) != 1 {
		t.Errorf("served: %v on %v", v.Served, v.Hostnames)
	}
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/aaa.*", "two") })
	k.want("a=/aaa.*→two b=/bb.*→two", "b", "True/PartiallyInvalid")
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/(", "two") })
	k.want("a=/aaa.*→two b=/bb.*→two", "a b", "False/InvalidRule")
}

func TestOneBadPolicyOrClassBreaksNoRuleThatWasGood(t *testing.T) {
	k := newKeeping(t)
	bad := v1alpha1.BackendSettings{LoadBalancing: &v1alpha1.LoadBalancing{Type: "Best"}}
	k.Policies = []*v1alpha1.BackendPolicy{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "bad"},
		Spec:       v1alpha1.BackendPolicySpec{TargetRefs: []v1alpha1.PolicyTargetRef{{Kind: "Service", Name: "app"}}, BackendSettings: bad},
	}}
	k.want("a=/a.*→one b=/b.*→two", "a", "True/PartiallyInvalid")
	k.Classes = []*v1alpha1.ProxyClass{{ObjectMeta: metav1.ObjectMeta{Name: "ferrum"}, Spec: v1alpha1.ProxyClassSpec{
		Defaults: &v1alpha1.ClassDefaults{Timeouts: &v1alpha1.Timeouts{Request: new(v1alpha1.Duration("soon"))}},
	}}}
	k.want("a=/a.*→one b=/b.*→two", "a b", "False/InvalidRule")
	k.Policies, k.Classes = nil, []*v1alpha1.ProxyClass{{ObjectMeta: metav1.ObjectMeta{Name: "ferrum"}}}
	k.want("a=/a.*→one b=/b.*→two", "", "True/Accepted")
}

func TestALastGoodRuleFollowsGrantsAndServices(t *testing.T) {
	k := newKeeping(t)
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/a(", "two") })
	k.want("a=/a.*→one b=/b.*→two", "a", "True/PartiallyInvalid")
	grants := k.Grants
	k.Grants = grants[1:]
	k.want("a=/a.*→leg 500 b=/b.*→two", "a", "True/PartiallyInvalid")
	if c := k.last.Verdicts.Routes[types.NamespacedName{Namespace: "web", Name: "site"}].Condition(v1alpha1.ConditionResolvedRefs); c.Reason != v1alpha1.ReasonRefNotPermitted {
		t.Errorf("ResolvedRefs: %s", c.Reason)
	}
	k.Grants = grants
	k.want("a=/a.*→one b=/b.*→two", "a", "True/PartiallyInvalid")
	services := k.Services
	k.Services = services[1:]
	k.want("a=/a.*→leg 500 b=/b.*→two", "a", "True/PartiallyInvalid")
	k.Services = services
	k.want("a=/a.*→one b=/b.*→two", "a", "True/PartiallyInvalid")
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.ClassName = new("other") })
	k.want("", "", "False/ClassNotFound")
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.ClassName = nil })
	k.want("a=/a.*→one b=/b.*→two", "a", "True/PartiallyInvalid")
}

func TestAReferenceThatDoesNotResolveIsNoBrokenRule(t *testing.T) {
	k := newKeeping(t)
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/a.*", "nowhere") })
	k.want("a=/a.*→leg 500 b=/b.*→two", "", "True/Accepted")
	k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/a(", "one") })
	k.want("a=/a.*→leg 500 b=/b.*→two", "a", "True/PartiallyInvalid")
}

func TestLastGoodRulesEndWithTheirNameOrRoute(t *testing.T) {
	broken := func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0] = regexRule("a", "/a(", "two") }
	for name, forget := range map[string]func(k *keeping){
		"the rule had another name": func(k *keeping) {
			k.edit(func(r *v1alpha1.ProxyRoute) { r.Spec.Rules[0].Name = "c" })
			k.b.Build(k.Snapshot)
		},
		"the route was deleted": func(k *keeping) {
			routes := k.Routes
			k.Routes = nil
			k.b.Build(k.Snapshot)
			k.Routes = routes
		},
		"it is another route": func(k *keeping) { k.edit(func(r *v1alpha1.ProxyRoute) { r.UID = "2" }) },
		"nobody asked for it": func(k *keeping) { k.b = Builder{} },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeping(t)
			forget(k)
			k.edit(broken)
			k.want("b=/b.*→two", "", "True/PartiallyInvalid")
		})
	}
}

func TestABuilderThatKeepsLastGoodRulesAgreesWithBuildWhileNoneIsHeld(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(seed, true)
		b, agreed := Builder{KeepLastGood: true}, 0
		for range 100 {
			w.edit()
			s := w.snapshot()
			got, want := b.Build(s), Build(s)
			for n, v := range want.Verdicts.Routes {
				if len(got.Verdicts.Routes[n].Held) > 0 {
					continue
				}
				if g := got.Verdicts.Routes[n].Condition(v1alpha1.ConditionAccepted); g != v.Condition(v1alpha1.ConditionAccepted) {
					t.Fatalf("%s: %+v, want %+v", n, g, v)
				}
				agreed++
			}
			checkServable(t, got.Plan)
		}
		if agreed == 0 {
			t.Error("every rule is held")
		}
	}
}
