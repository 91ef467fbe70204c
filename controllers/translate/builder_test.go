package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

// world is a changing set of objects. It never changes an object in place, as
// an informer does not.
type world struct {
	rng        *rand.Rand
	versioned  bool // objects have UIDs and versions, as those of an API server
	version    int
	routes     map[name]*v1alpha1.ProxyRoute
	policies   map[name]*v1alpha1.BackendPolicy
	classes    map[name]*v1alpha1.ProxyClass
	services   map[name]*corev1.Service
	slices     map[name]*discoveryv1.EndpointSlice
	namespaces map[name]*corev1.Namespace
	grants     map[name]*gatewayv1.ReferenceGrant
	local      bool
	zone       string
	secret     string
}

func newWorld(seed uint64, versioned bool) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 0)), versioned: versioned,
		routes: map[name]*v1alpha1.ProxyRoute{}, policies: map[name]*v1alpha1.BackendPolicy{},
		classes: map[name]*v1alpha1.ProxyClass{}, services: map[name]*corev1.Service{},
		slices: map[name]*discoveryv1.EndpointSlice{}, namespaces: map[name]*corev1.Namespace{},
		grants: map[name]*gatewayv1.ReferenceGrant{},
	}
}

// snapshot lists the world in random order; of a versioned world it sometimes
// gives copies, as after a relist.
func (w *world) snapshot() Snapshot {
	s := Snapshot{
		Routes: slices.Collect(maps.Values(w.routes)), Policies: slices.Collect(maps.Values(w.policies)),
		Classes: slices.Collect(maps.Values(w.classes)), Services: slices.Collect(maps.Values(w.services)),
		EndpointSlices: slices.Collect(maps.Values(w.slices)), Namespaces: slices.Collect(maps.Values(w.namespaces)),
		Grants: slices.Collect(maps.Values(w.grants)), AllowLocalEndpoints: w.local,
		Zone: w.zone, SessionSecret: []byte(w.secret),
	}
	if w.versioned && w.rng.IntN(4) == 0 {
		copyAll(s.Routes)
		copyAll(s.Policies)
		copyAll(s.Classes)
		copyAll(s.Services)
		copyAll(s.EndpointSlices)
		copyAll(s.Namespaces)
		copyAll(s.Grants)
	}
	return s
}

func copyAll[T interface{ DeepCopy() T }](list []T) {
	for i := range list {
		list[i] = list[i].DeepCopy()
	}
}

func pick[T any](w *world, from ...T) T { return from[w.rng.IntN(len(from))] }

func (w *world) maybe() bool { return w.rng.IntN(2) == 0 }

func (w *world) anyNamespace() string { return pick(w, "a", "b", "c") }

// meta gives an object a name, keeping identity and age of the one it replaces.
func (w *world) meta(n name, old metav1.Object, exists bool) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name}
	w.version++
	if exists {
		m.CreationTimestamp = old.GetCreationTimestamp()
		m.Generation = old.GetGeneration() + 1
		m.UID = old.GetUID()
	} else {
		m.CreationTimestamp = metav1.NewTime(time.Unix(1_800_000_000+int64(w.rng.IntN(4)), 0))
		m.Generation = 1
		m.UID = types.UID(fmt.Sprint("uid-", w.version))
	}
	m.ResourceVersion = fmt.Sprint(w.version)
	if !w.versioned {
		m.UID, m.ResourceVersion, m.Generation = "", "", 0
		m.CreationTimestamp = metav1.NewTime(time.Unix(1_800_000_000+int64(w.rng.IntN(4)), 0))
	}
	return m
}

// edit makes one random change.
func (w *world) edit() {
	ns := w.anyNamespace()
	switch w.rng.IntN(13) {
	case 0, 1, 2:
		change(w, w.routes, name{Namespace: ns, Name: pick(w, "r1", "r2", "r3")}, w.route)
	case 3:
		change(w, w.policies, name{Namespace: ns, Name: pick(w, "p1", "p2")}, w.policy)
	case 4:
		change(w, w.classes, name{Name: pick(w, "c1", "c2")}, w.class)
	case 5, 6:
		change(w, w.services, name{Namespace: ns, Name: pick(w, "s1", "s2")}, w.service)
	case 7, 8, 9:
		change(w, w.slices, name{Namespace: ns, Name: pick(w, "e1", "e2", "e3")}, w.slice)
	case 10:
		change(w, w.namespaces, name{Name: ns}, func(m metav1.ObjectMeta) *corev1.Namespace {
			m.Labels = pick(w, nil, map[string]string{"team": "x"})
			return &corev1.Namespace{ObjectMeta: m}
		})
	case 11:
		change(w, w.grants, name{Namespace: ns, Name: "g"}, w.grant)
	case 12:
		if w.rng.IntN(8) == 0 {
			w.local = !w.local
			w.zone, w.secret = pick(w, "", "a", "b"), pick(w, "", "s")
		}
		w.statusWrite()
	}
}

// change adds, replaces or, rarely, deletes an object.
func change[T interface {
	comparable
	metav1.Object
}](w *world, in map[name]T, n name, create func(metav1.ObjectMeta) T) {
	old, exists := in[n]
	if exists && w.rng.IntN(8) == 0 {
		delete(in, n)
		return
	}
	in[n] = create(w.meta(n, old, exists))
}

// statusWrite gives a route a new resourceVersion and nothing else.
func (w *world) statusWrite() {
	for n, r := range w.routes {
		r = r.DeepCopy()
		w.version++
		if w.versioned {
			r.ResourceVersion = fmt.Sprint(w.version)
		}
		r.Status.ObservedGeneration = int64(w.version)
		w.routes[n] = r
		return
	}
}

func (w *world) route(m metav1.ObjectMeta) *v1alpha1.ProxyRoute {
	r := &v1alpha1.ProxyRoute{ObjectMeta: m}
	if w.rng.IntN(3) == 0 {
		r.Spec.ClassName = new(pick(w, "c1", "c1", "c2", "c3"))
	}
	for range w.rng.IntN(3) {
		r.Spec.Hostnames = append(r.Spec.Hostnames, pick[v1alpha1.Hostname](w, "x.test", "*.x.test", "y.x.test", "z.test", "bad host"))
	}
	for i := range 1 + w.rng.IntN(2) {
		rule := v1alpha1.RouteRule{}
		if w.maybe() {
			rule.Name = fmt.Sprint("n", i)
		}
		for range w.rng.IntN(3) {
			rule.Matches = append(rule.Matches, w.match())
		}
		for range w.rng.IntN(4) {
			ref := v1alpha1.BackendRef{Name: pick(w, "s1", "s1", "s2", "s2", "s3"), Port: w.port()}
			if w.rng.IntN(4) == 0 {
				ref.Namespace = new(w.anyNamespace())
			}
			if w.rng.IntN(4) == 0 {
				ref.Weight = new(int32(w.rng.IntN(3)))
			}
			rule.BackendRefs = append(rule.BackendRefs, ref)
		}
		if w.rng.IntN(5) == 0 {
			rule.Timeouts = &v1alpha1.Timeouts{Connect: new(pick[v1alpha1.Duration](w, "1s", "2s", "bad"))}
		}
		if w.rng.IntN(4) == 0 {
			rule.BackendPolicy = w.settings()
		}
		if w.rng.IntN(4) == 0 {
			rule.SessionPersistence = &v1alpha1.SessionPersistence{}
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	return r
}

func (w *world) match() v1alpha1.RouteMatch {
	m := v1alpha1.RouteMatch{Path: &v1alpha1.PathMatch{
		Type:  pick(w, v1alpha1.PathMatchExact, v1alpha1.PathMatchPathPrefix, v1alpha1.PathMatchRegularExpression),
		Value: pick(w, "/", "/a", "/a/", "/(", "/a/b"),
	}}
	if w.rng.IntN(3) == 0 {
		m.Method = new(pick(w, "GET", "POST"))
	}
	for range w.rng.IntN(3) {
		m.Headers = append(m.Headers, v1alpha1.HeaderMatch{Name: pick(w, "h1", "H2"), Value: pick(w, "1", "2")})
	}
	for range w.rng.IntN(2) {
		m.QueryParams = append(m.QueryParams, v1alpha1.QueryParamMatch{Name: pick(w, "h1", "q"), Value: "1"})
	}
	return m
}

func (w *world) port() intstr.IntOrString {
	return pick(w, intstr.FromInt32(80), intstr.FromInt32(80), intstr.FromInt32(81), intstr.FromString("http"), intstr.FromString("alt"))
}

func (w *world) settings() *v1alpha1.BackendSettings {
	return &v1alpha1.BackendSettings{
		LoadBalancing: pick(w, nil, nil, nil,
			&v1alpha1.LoadBalancing{Type: v1alpha1.LoadBalancingRoundRobin}, &v1alpha1.LoadBalancing{}, &v1alpha1.LoadBalancing{Type: "New"}),
		HealthCheck: pick(w, nil, nil, nil, &v1alpha1.HealthCheck{}, &v1alpha1.HealthCheck{PanicThresholdPercent: new(int32(0))},
			&v1alpha1.HealthCheck{Active: &v1alpha1.ActiveCheck{Type: v1alpha1.ActiveCheckTCP}}),
		Drain:       pick(w, nil, nil, &v1alpha1.Drain{Timeout: new(pick[v1alpha1.Duration](w, "1m", "0s", "bad"))}),
		RetryBudget: pick(w, nil, nil, nil, &v1alpha1.RetryBudget{}, &v1alpha1.RetryBudget{Percent: new(pick[int32](w, 10, 101))}),
		Connection:  pick(w, nil, nil, &v1alpha1.Connection{MaxAge: new(pick[v1alpha1.Duration](w, "1m", "2m", "bad"))}),
	}
}

func (w *world) policy(m metav1.ObjectMeta) *v1alpha1.BackendPolicy {
	p := &v1alpha1.BackendPolicy{ObjectMeta: m, Spec: v1alpha1.BackendPolicySpec{BackendSettings: *w.settings()}}
	for range 1 + w.rng.IntN(2) {
		ref := v1alpha1.PolicyTargetRef{Name: pick(w, "s1", "s2", "s3")}
		if w.maybe() {
			ref.Port = new(w.port())
		}
		p.Spec.TargetRefs = append(p.Spec.TargetRefs, ref)
	}
	return p
}

func (w *world) class(m metav1.ObjectMeta) *v1alpha1.ProxyClass {
	c := &v1alpha1.ProxyClass{ObjectMeta: m}
	if w.maybe() {
		c.Annotations = map[string]string{v1alpha1.DefaultClassAnnotation: "true"}
	}
	for range pick(w, 0, 0, 0, 1, 2) {
		g := v1alpha1.RouteGrant{Hostnames: []v1alpha1.GrantedHostname{pick[v1alpha1.GrantedHostname](w, "*", "*", "*.x.test", "x.test", "z.test")}}
		if w.maybe() {
			g.Namespaces = &v1alpha1.RouteNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}}
		}
		c.Spec.AllowedRoutes = append(c.Spec.AllowedRoutes, g)
	}
	if w.maybe() {
		c.Spec.Defaults = &v1alpha1.ClassDefaults{BackendPolicy: w.settings(), Timeouts: &v1alpha1.Timeouts{Request: new(pick[v1alpha1.Duration](w, "1m", "2m"))}}
	}
	return c
}

func (w *world) service(m metav1.ObjectMeta) *corev1.Service {
	s := &corev1.Service{ObjectMeta: m}
	if w.rng.IntN(6) == 0 {
		s.Spec.Type = corev1.ServiceTypeExternalName
	}
	s.Spec.Ports = []corev1.ServicePort{{Name: pick(w, "http", "web"), Port: 80}}
	if w.maybe() {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "alt", Port: 81, Protocol: pick(w, corev1.ProtocolTCP, corev1.ProtocolUDP)})
	}
	return s
}

func (w *world) slice(m metav1.ObjectMeta) *discoveryv1.EndpointSlice {
	m.Labels = map[string]string{discoveryv1.LabelServiceName: pick(w, "s1", "s2", "")}
	s := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4}
	s.Ports = []discoveryv1.EndpointPort{{Name: new(pick(w, "http", "web", "alt")), Port: new(pick[int32](w, 8080, 8081))}}
	for range w.rng.IntN(3) {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Hints:      pick(w, nil, &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: pick(w, "a", "b")}}}),
			Addresses:  []string{pick(w, "10.0.0.1", "10.0.0.2", "127.0.0.1")},
			Conditions: discoveryv1.EndpointConditions{Ready: pick(w, nil, new(true), new(false)), Serving: new(true), Terminating: pick(w, nil, new(true))},
		})
	}
	return s
}

func (w *world) grant(m metav1.ObjectMeta) *gatewayv1.ReferenceGrant {
	g := &gatewayv1.ReferenceGrant{ObjectMeta: m}
	g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: v1alpha1.GroupName, Kind: "ProxyRoute", Namespace: gatewayv1.Namespace(w.anyNamespace())}}
	g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service", Name: pick(w, nil, new(gatewayv1.ObjectName("s1")))}}
	return g
}

func TestBuilderAgreesWithBuildAfterAnyEdits(t *testing.T) {
	for _, versioned := range []bool{true, false} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprintf("versioned=%v,seed=%d", versioned, seed), func(t *testing.T) {
				w := newWorld(seed, versioned)
				var b Builder
				var last Result
				for step := range 100 {
					for range w.rng.IntN(3) {
						w.edit()
					}
					s := w.snapshot()
					before := deepCopy(last)
					got, want := b.Build(s), Build(s)
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("step %d: the Builder differs from Build (-Build +Builder):\n%s", step, cmp.Diff(want, got))
					}
					if !reflect.DeepEqual(before, last) {
						t.Fatalf("step %d: an earlier Result was changed:\n%s", step, cmp.Diff(before, last))
					}
					checkPointersKept(t, last.Plan, got.Plan)
					checkMessages(t, got)
					checkServable(t, got.Plan)
					last = got
				}
			})
		}
	}
}

// checkPointersKept demands that a route that comes out the same is the same.
func checkPointersKept(t *testing.T, before, after plan.Plan) {
	t.Helper()
	old := make(map[name]*plan.Route)
	for _, r := range before.Routes {
		old[name{Namespace: r.Namespace, Name: r.Name}] = r
	}
	for _, r := range after.Routes {
		o := old[name{Namespace: r.Namespace, Name: r.Name}]
		if o != nil && o != r && reflect.DeepEqual(o, r) {
			t.Errorf("%s/%s did not change and has another pointer", r.Namespace, r.Name)
		}
	}
}

// checkServable demands that the data plane can compile the plan: one bad rule
// must not keep everything else from being served.
func checkServable(t *testing.T, p plan.Plan) {
	t.Helper()
	var entries []route.Entry[*plan.Rule]
	pools := make(map[plan.PoolKey]bool)
	for _, pool := range p.Pools {
		pools[pool.Key] = true
	}
	for _, r := range p.Routes {
		names := make(map[string]bool)
		for i := range r.Rules {
			rule := &r.Rules[i]
			if names[rule.Name] || rule.Name == "" {
				t.Errorf("%s/%s: the rule name %q is not unique", r.Namespace, r.Name, rule.Name)
			}
			names[rule.Name] = true
			for _, l := range rule.Legs {
				if l.Invalid == "" && !pools[l.Pool] {
					t.Errorf("%s/%s rule %s: pool %v is not in the plan", r.Namespace, r.Name, rule.Name, l.Pool)
				}
			}
			entries = append(entries, route.Entry[*plan.Rule]{Hostnames: r.Hostnames, Matches: rule.Matches, Value: rule})
		}
	}
	if _, err := route.Build(entries, nil); err != nil {
		t.Errorf("the plan cannot be served: %v", err)
	}
}

// deepCopy copies what a Builder could spoil in a Result that it has returned.
func deepCopy(r Result) Result {
	c := r
	c.Plan.Routes = nil
	for _, route := range r.Plan.Routes {
		o := *route
		o.Rules = slices.Clone(route.Rules)
		for i := range o.Rules {
			o.Rules[i].Legs = slices.Clone(o.Rules[i].Legs)
			o.Rules[i].Matches = slices.Clone(o.Rules[i].Matches)
		}
		c.Plan.Routes = append(c.Plan.Routes, &o)
	}
	if c.Plan.Routes == nil && r.Plan.Routes != nil {
		c.Plan.Routes = []*plan.Route{}
	}
	c.Plan.Pools = slices.Clone(r.Plan.Pools)
	for i := range c.Plan.Pools {
		c.Plan.Pools[i].Endpoints = slices.Clone(c.Plan.Pools[i].Endpoints)
	}
	c.Verdicts = Verdicts{Routes: maps.Clone(r.Verdicts.Routes), Policies: maps.Clone(r.Verdicts.Policies), Classes: maps.Clone(r.Verdicts.Classes)}
	for n, v := range c.Verdicts.Routes {
		v.Conditions, v.Hostnames = slices.Clone(v.Conditions), slices.Clone(v.Hostnames)
		c.Verdicts.Routes[n] = v
	}
	c.Warnings = slices.Clone(r.Warnings)
	return c
}

func TestRouteKeepsItsPointerUntilItsMeaningChanges(t *testing.T) {
	w := largeWorld(3, 1)
	var b Builder
	first := b.Build(w.snapshot())
	routes := first.Plan.Routes
	if len(routes) != 3 {
		t.Fatalf("%d routes in the plan, want 3", len(routes))
	}
	kept := func(what string, want ...bool) {
		t.Helper()
		r := b.Build(w.snapshot())
		for i := range want {
			if got := r.Plan.Routes[i] == routes[i]; got != want[i] {
				t.Errorf("after %s: route %d kept its pointer: %v, want %v", what, i, got, want[i])
			}
		}
		routes = r.Plan.Routes
	}

	kept("nothing", true, true, true)

	w.moveEndpoint(0)
	kept("a change of endpoints", true, true, true)

	w.statusWrite()
	kept("a status write", true, true, true)

	s := w.services[largeName(1)].DeepCopy()
	s.ResourceVersion, s.Spec.ClusterIP = "100", "10.9.9.9"
	w.services[largeName(1)] = s
	kept("a change of a Service that counts for nothing", true, true, true)

	s = s.DeepCopy()
	s.ResourceVersion, s.Spec.Ports[0].Port = "101", 8000
	w.services[largeName(1)] = s
	kept("a port that is gone", true, false, true)

	r := w.routes[largeName(2)].DeepCopy()
	r.Generation, r.Spec.Rules[0].BackendRefs[0].Weight = 2, new(int32(7))
	w.routes[largeName(2)] = r
	kept("an edit of the route", true, true, false)

	c := w.classes[name{Name: "ferrum"}].DeepCopy()
	c.ResourceVersion, c.Spec.AllowedRoutes = "102", []v1alpha1.RouteGrant{{}}
	w.classes[name{Name: "ferrum"}] = c
	kept("a class that grants the same in other words", true, true, true)

	c = c.DeepCopy()
	c.ResourceVersion, c.Spec.Defaults = "103", &v1alpha1.ClassDefaults{Timeouts: &v1alpha1.Timeouts{Connect: new(v1alpha1.Duration("9s"))}}
	w.classes[name{Name: "ferrum"}] = c
	kept("other defaults of the class", false, false, false)
}

func TestRenamedServicePortMovesTheEndpoints(t *testing.T) {
	w := largeWorld(2, 1)
	var b Builder
	before := b.Build(w.snapshot())
	s := w.services[largeName(1)].DeepCopy()
	s.ResourceVersion, s.Spec.Ports[0].Name = "renamed", "other"
	w.services[largeName(1)] = s
	after := b.Build(w.snapshot())
	if len(before.Plan.Pools[1].Endpoints) != 3 || len(after.Plan.Pools[1].Endpoints) != 0 {
		t.Errorf("endpoints %v, then %v; want three, then none", before.Plan.Pools[1].Endpoints, after.Plan.Pools[1].Endpoints)
	}
	if before.Plan.Routes[1] != after.Plan.Routes[1] {
		t.Error("the route means the same and has another pointer")
	}
}

func TestEndpointChangeTouchesOnePoolOnly(t *testing.T) {
	w := largeWorld(50, 2)
	var b Builder
	before := b.Build(w.snapshot())
	w.moveEndpoint(7)
	after := b.Build(w.snapshot())

	if reflect.ValueOf(before.Verdicts.Routes).Pointer() != reflect.ValueOf(after.Verdicts.Routes).Pointer() {
		t.Error("the verdicts were made anew")
	}
	if &before.Plan.Routes[0] != &after.Plan.Routes[0] {
		t.Error("the list of routes was made anew")
	}
	var changed []plan.PoolKey
	for i := range after.Plan.Pools {
		if !slices.Equal(before.Plan.Pools[i].Endpoints, after.Plan.Pools[i].Endpoints) {
			changed = append(changed, after.Plan.Pools[i].Key)
		} else if &before.Plan.Pools[i].Endpoints[0] != &after.Plan.Pools[i].Endpoints[0] {
			t.Errorf("the endpoints of %v did not change and were made anew", after.Plan.Pools[i].Key)
		}
	}
	if len(changed) != 1 || changed[0].Service != largeName(7).Name {
		t.Errorf("pools with other endpoints: %v, want that of %s", changed, largeName(7).Name)
	}
}

// A lister may hand out pointers into one array per snapshot. One object that a
// Builder holds on to would keep such an array, and with it everything of that
// snapshot, alive for as long as the object does not change.
func TestBuilderHoldsOnToNoOldSnapshot(t *testing.T) {
	var b Builder
	var w *world
	old := func() map[string]weak.Pointer[byte] {
		w = largeWorld(3, 1)
		for range 200 { // the other kinds
			w.edit()
		}
		s := w.snapshot()
		b.Build(s)
		all := make(map[string]weak.Pointer[byte])
		watch(all, "ProxyRoute", s.Routes)
		watch(all, "BackendPolicy", s.Policies)
		watch(all, "ProxyClass", s.Classes)
		watch(all, "Service", s.Services)
		watch(all, "EndpointSlice", s.EndpointSlices)
		watch(all, "Namespace", s.Namespaces)
		watch(all, "ReferenceGrant", s.Grants)
		copyMap(w.routes)
		copyMap(w.policies)
		copyMap(w.classes)
		copyMap(w.services)
		copyMap(w.slices)
		copyMap(w.namespaces)
		copyMap(w.grants)
		return all
	}()
	w.editRoute(1)
	b.Build(w.snapshot())
	runtime.GC()
	for what, p := range old {
		if p.Value() != nil {
			t.Errorf("%s of an old snapshot is still referred to", what)
		}
	}
	runtime.KeepAlive(&b)
}

func watch[T any](all map[string]weak.Pointer[byte], kind string, list []*T) {
	for i, o := range list {
		// A weak pointer to the first byte of an object is one to the object.
		all[fmt.Sprint(kind, " ", i)] = weak.Make((*byte)(unsafe.Pointer(o)))
	}
}

func copyMap[T interface{ DeepCopy() T }](m map[name]T) {
	for n, o := range m {
		m[n] = o.DeepCopy()
	}
}
