package controllers

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// goodObjects are those of three routes, all of them good: "site", which refers to
// a Service with a policy and to one of another namespace, "beside" of the same
// class and namespace, and "other" of another one of both.
func goodObjects() translate.Snapshot {
	var s translate.Snapshot
	for _, name := range []string{"ferrum", "calm"} {
		s.Classes = append(s.Classes, &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ProxyClassSpec{
			Defaults: &v1alpha1.ClassDefaults{Timeouts: &v1alpha1.Timeouts{Request: new(v1alpha1.Duration("7s"))}},
		}})
	}
	for _, ns := range []string{"web", "far", "calm"} {
		s.Services = append(s.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "app"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		})
		s.EndpointSlices = append(s.EndpointSlices, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: "app-1", Labels: map[string]string{discoveryv1.LabelServiceName: "app"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
		})
	}
	s.Grants = []*gatewayv1.ReferenceGrant{{ObjectMeta: metav1.ObjectMeta{Namespace: "far", Name: "web"}, Spec: gatewayv1.ReferenceGrantSpec{
		From: []gatewayv1.ReferenceGrantFrom{{Group: v1alpha1.GroupName, Kind: "ProxyRoute", Namespace: "web"}},
		To:   []gatewayv1.ReferenceGrantTo{{Kind: "Service"}},
	}}}
	s.Policies = []*v1alpha1.BackendPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "balance"}, Spec: v1alpha1.BackendPolicySpec{
		TargetRefs:      []v1alpha1.PolicyTargetRef{{Kind: "Service", Name: "app"}},
		BackendSettings: v1alpha1.BackendSettings{LoadBalancing: &v1alpha1.LoadBalancing{Type: v1alpha1.LoadBalancingRoundRobin}},
	}}}
	s.Routes = []*v1alpha1.ProxyRoute{
		goodRoute("web", "site", "ferrum", goodRule("a", "web"), goodRule("b", "far")),
		goodRoute("web", "beside", "ferrum", goodRule("c", "web")),
		goodRoute("calm", "other", "calm", goodRule("d", "calm")),
	}
	return s
}

func goodRoute(ns, name, class string, rules ...v1alpha1.RouteRule) *v1alpha1.ProxyRoute {
	return &v1alpha1.ProxyRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(name)},
		Spec:       v1alpha1.ProxyRouteSpec{ClassName: &class, Hostnames: []v1alpha1.Hostname{v1alpha1.Hostname(name + ".example.com")}, Rules: rules},
	}
}

func goodRule(name, ns string) v1alpha1.RouteRule {
	return v1alpha1.RouteRule{
		Name:        name,
		Matches:     []v1alpha1.RouteMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegularExpression, Value: "/" + name}}},
		BackendRefs: []v1alpha1.BackendRef{{Namespace: &ns, Name: "app", Port: intstr.FromInt32(80)}},
	}
}

// servedWords shows what a route is served as, and the statuses that say so.
func servedWords(s translate.Snapshot, r translate.Result, name types.NamespacedName) string {
	var words []string
	for _, route := range r.Plan.Routes {
		if route.Namespace != name.Namespace || route.Name != name.Name {
			continue
		}
		for i := range route.Rules {
			rule := &route.Rules[i]
			to := "500"
			if rule.Invalid == "" && rule.Legs[0].Invalid == "" {
				l := rule.Legs[0]
				to = fmt.Sprintf("%s (%s, %d endpoints)", l.Pool.Namespace, l.Pool.Policy.LoadBalancing.Balancer, endpointsOf(r.Plan, l.Pool))
			}
			words = append(words, fmt.Sprintf("%s→%s in %s", rule.Matches[0].Path.Value, to, rule.Timeouts.Request))
		}
	}
	for _, c := range judge(s, r, nil, nil)[objectKey{kindRoute, name}].conditions {
		if c.Type != v1alpha1.ConditionConflicted {
			words = append(words, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
		}
	}
	return strings.Join(words, "\n")
}

func endpointsOf(p plan.Plan, k plan.PoolKey) int {
	for _, pool := range p.Pools {
		if pool.Key == k {
			return len(pool.Endpoints)
		}
	}
	return 0
}

// What each kind of object that goes bad does to a route that refers to it, and
// with what conditions. The other routes are served as they were.
func TestWhatABadObjectOfEachKindLeavesServed(t *testing.T) {
	const (
		a       = "/a→web (RoundRobin, 1 endpoints) in 7s\n"
		b       = "/b→far (LeastRequest, 1 endpoints) in 7s\n"
		c       = "/c→web (RoundRobin, 1 endpoints) in 7s\n"
		good    = "Accepted=True/Accepted\nResolvedRefs=True/ResolvedRefs\nProgrammed=True/Programmed"
		partly  = "Accepted=True/PartiallyInvalid\nResolvedRefs=True/ResolvedRefs\nProgrammed=False/UsingLastKnownGood"
		invalid = "Accepted=False/InvalidRule\nResolvedRefs=True/ResolvedRefs\nProgrammed=False/UsingLastKnownGood"
		noClass = "Accepted=False/ClassNotFound\nResolvedRefs=True/ResolvedRefs\nProgrammed=False/Invalid"
		refused = "Accepted=False/NotAllowedByClass\nResolvedRefs=True/ResolvedRefs\nProgrammed=False/Invalid"
	)
	for what, tc := range map[string]struct {
		bad  func(s *translate.Snapshot)
		want string
		// beside is what the route of the same class and namespace is served as;
		// "": as before.
		beside string
	}{
		"a rule that cannot be compiled": {bad: func(s *translate.Snapshot) {
			s.Routes[0].Spec.Rules[0].Matches[0].Path.Value = "/a("
		}, want: a + b + partly},
		"no rule that can": {bad: func(s *translate.Snapshot) {
			s.Routes[0].Spec.Rules[0].Matches[0].Path.Value = "/a("
			s.Routes[0].Spec.Rules[1].Matches[0].Path.Value = "/b("
		}, want: a + b + invalid},
		"a policy that cannot be read": {bad: func(s *translate.Snapshot) {
			s.Policies[0].Spec.LoadBalancing.Type = "Best"
		}, want: a + b + partly, beside: c + invalid},
		"a class whose defaults cannot be read": {bad: func(s *translate.Snapshot) {
			s.Classes[0].Spec.Defaults.Timeouts.Request = new(v1alpha1.Duration("soon"))
		}, want: a + b + invalid, beside: c + invalid},
		"a class that is gone": {bad: func(s *translate.Snapshot) {
			s.Classes = s.Classes[1:]
		}, want: noClass, beside: noClass},
		"a class that grants the hostnames to nobody any more": {bad: func(s *translate.Snapshot) {
			s.Classes[0].Spec.AllowedRoutes = []v1alpha1.RouteGrant{{Hostnames: []v1alpha1.GrantedHostname{"example.org"}}}
		}, want: refused, beside: refused},
		"a Service that is gone": {bad: func(s *translate.Snapshot) {
			s.Services = append(s.Services[:1:1], s.Services[2])
		}, want: a + "/b→500 in 7s\nAccepted=True/Accepted\nResolvedRefs=False/BackendNotFound\nProgrammed=True/Programmed"},
		"a port that is gone": {bad: func(s *translate.Snapshot) {
			s.Services[1].Spec.Ports[0].Port = 81
		}, want: a + "/b→500 in 7s\nAccepted=True/Accepted\nResolvedRefs=False/PortNotFound\nProgrammed=True/Programmed"},
		"a grant that is withdrawn": {bad: func(s *translate.Snapshot) {
			s.Grants = nil
		}, want: a + "/b→500 in 7s\nAccepted=True/Accepted\nResolvedRefs=False/RefNotPermitted\nProgrammed=True/Programmed"},
		"endpoints that are gone": {bad: func(s *translate.Snapshot) {
			s.EndpointSlices = append(s.EndpointSlices[:1:1], s.EndpointSlices[2])
		}, want: a + "/b→far (LeastRequest, 0 endpoints) in 7s\n" + good},
	} {
		t.Run(what, func(t *testing.T) {
			builder := translate.Builder{KeepLastGood: true}
			before := goodObjects()
			was := builder.Build(before)
			site, beside, other := name("web", "site"), name("web", "beside"), name("calm", "other")
			if got := servedWords(before, was, site); got != a+b+good {
				t.Fatalf("served before:\n%s", got)
			}
			after := goodObjects()
			tc.bad(&after)
			for _, route := range after.Routes {
				route.Generation++
			}
			for range 2 { // it does not wear off
				is := builder.Build(after)
				if got := servedWords(after, is, site); got != tc.want {
					t.Errorf("served:\n%s\nwant:\n%s", got, tc.want)
				}
				if got, want := servedWords(after, is, other), servedWords(before, was, other); got != want {
					t.Errorf("the route of another class is served:\n%s\nbefore:\n%s", got, want)
				}
				if got, want := servedWords(after, is, beside), cmp.Or(tc.beside, c+good); got != want {
					t.Errorf("the route beside it is served:\n%s\nwant:\n%s", got, want)
				}
			}
			again := goodObjects()
			if got := servedWords(again, builder.Build(again), site); got != a+b+good {
				t.Errorf("served when all is good again:\n%s", got)
			}
		})
	}
}

func name(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}
