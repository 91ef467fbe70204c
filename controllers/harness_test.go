package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// patienceLimit bounds every wait for something that must happen. It is far
// more than any of it takes.
const patienceLimit = 90 * time.Second

// recorder is an Applier that keeps what it gets.
type recorder struct {
	mu    sync.Mutex
	plans []plan.Plan
	fail  error
	news  chan struct{} // closed and replaced at every Apply
}

func (r *recorder) Apply(p plan.Plan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		close(r.news)
		r.news = make(chan struct{})
	}()
	if r.fail != nil {
		return r.fail
	}
	r.plans = append(r.plans, p)
	return nil
}

func (r *recorder) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) all() ([]plan.Plan, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.plans), r.news
}

// waitFor returns the first of the latest plans that good accepts.
func (r *recorder) waitFor(t *testing.T, what string, good func(plan.Plan) bool) plan.Plan {
	t.Helper()
	deadline := time.NewTimer(patienceLimit)
	defer deadline.Stop()
	for {
		plans, news := r.all()
		if n := len(plans); n > 0 && good(plans[n-1]) {
			return plans[n-1]
		}
		select {
		case <-news:
		case <-deadline.C:
			t.Fatalf("no plan with %s after %v and %d plans", what, patienceLimit, len(plans))
		}
	}
}

// replica is one Run against an API server.
type replica struct {
	*recorder
	registry *prometheus.Registry
	log      *lines
	patches  *atomic.Int64 // of statuses
	stop     func()        // ends Run and waits for it
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(s string) bool { return strings.Contains(s, text) })
}

// countPatches counts the patches of statuses that go through a client.
type countPatches struct {
	http.RoundTripper
	n *atomic.Int64
}

func (c countPatches) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/status") {
		c.n.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// shortLease are times that let a test see a Lease change hands.
var shortLease = controllers.LeaseTimes{Duration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 250 * time.Millisecond}

// run starts a replica that ends with the test at the latest. leases is the
// namespace of its Lease.
func run(t *testing.T, cfg *rest.Config, leases, identity string, with ...func(*controllers.Options)) *replica {
	t.Helper()
	r := &replica{
		recorder: &recorder{news: make(chan struct{})},
		registry: prometheus.NewRegistry(),
		log:      &lines{},
		patches:  &atomic.Int64{},
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return countPatches{next, r.patches} })
	log := funcr.New(func(prefix, args string) {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		r.log.all = append(r.log.all, prefix+" "+args)
	}, funcr.Options{Verbosity: 1})
	o := controllers.Options{
		Applier: r.recorder, Log: log, LeaseNamespace: leases, Identity: identity,
		DiscoveryInterval: 200 * time.Millisecond, Lease: shortLease, Registerer: r.registry,
	}
	for _, f := range with {
		f(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- controllers.Run(ctx, cfg, o)
	}()
	r.stop = sync.OnceFunc(func() {
		select {
		case err := <-done:
			t.Errorf("Run has returned before its context ended: %v", err)
		default:
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			r.log.mu.Lock()
			defer r.log.mu.Unlock()
			t.Logf("log of %s:\n%s", identity, strings.Join(r.log.all, "\n"))
		}
	})
	return r
}

// metric returns the sum of the series of a counter or gauge that have all the
// given label values.
func (r *replica) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, values []string) bool {
	for _, v := range values {
		if !slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetValue() == v }) {
			return false
		}
	}
	return true
}

// eventually waits until check returns nil; what it returned last is the
// failure.
func eventually(t *testing.T, check func(ctx context.Context) error) {
	t.Helper()
	last := errors.New("never checked")
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patienceLimit, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	}); err != nil {
		t.Fatalf("after %v: %v", patienceLimit, last)
	}
}

func create(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T %s: %v", o, o.GetName(), err)
		}
	}
}

// edit changes the latest version of an object.
func edit[T client.Object](t *testing.T, c client.Client, o T, change func()) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change()
		return c.Update(ctx, o) // again after a conflict with a status
	})
}

// newClass returns a class that grants everything. Every test that shares the
// API server has its own.
func newClass(ns string) *v1alpha1.ProxyClass {
	return &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: ns}}
}

// host returns a hostname that no other test uses: two routes with the same one
// are in conflict, also across namespaces.
func host(ns, name string) string { return name + "." + ns + ".example.com" }

// newRoute returns a route of the class of its namespace to port 80 of a
// Service.
func newRoute(ns, name, hostname, service string) *v1alpha1.ProxyRoute {
	return &v1alpha1.ProxyRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.ProxyRouteSpec{
			ClassName: new(ns),
			Hostnames: []v1alpha1.Hostname{v1alpha1.Hostname(hostname)},
			Rules:     []v1alpha1.RouteRule{{BackendRefs: []v1alpha1.BackendRef{{Name: service, Port: intstr.FromInt32(80)}}}},
		},
	}
}

// newBackend returns a Service with an EndpointSlice that has the addresses.
func newBackend(ns, name string, addresses ...string) (*corev1.Service, *discoveryv1.EndpointSlice) {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name + "-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints:   endpoints(addresses...),
	}
	return service, slice
}

func endpoints(addresses ...string) []discoveryv1.Endpoint {
	var list []discoveryv1.Endpoint
	for _, a := range addresses {
		list = append(list, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	return list
}

// routesOf returns the hostnames of the routes of a namespace by name.
func routesOf(p plan.Plan, ns string) map[string]string {
	m := map[string]string{}
	for _, r := range p.Routes {
		if r.Namespace == ns {
			m[r.Name] = strings.Join(r.Hostnames, ",")
		}
	}
	return m
}

// addresses returns the endpoints of the pools of a Service, sorted.
func addresses(p plan.Plan, ns, service string) string {
	var list []netip.AddrPort
	for _, pool := range p.Pools {
		if pool.Key.Namespace == ns && pool.Key.Service == service {
			for _, e := range pool.Endpoints {
				list = append(list, e.Addr)
			}
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return fmt.Sprint(list)
}

// routeStatus waits until a route has a status for its latest generation whose
// conditions read as wanted, as in "Accepted=True/Accepted", and returns it.
func routeStatus(t *testing.T, c client.Client, o *v1alpha1.ProxyRoute, want ...string) v1alpha1.ProxyRouteStatus {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if o.Status.ObservedGeneration != o.Generation {
			return fmt.Errorf("route %s/%s: observedGeneration %d of %d", o.Namespace, o.Name, o.Status.ObservedGeneration, o.Generation)
		}
		return hasConditions(o.Status.Conditions, o.Generation, want)
	})
	return o.Status
}

func hasConditions(conditions []metav1.Condition, generation int64, want []string) error {
	for _, w := range want {
		name, _, _ := strings.Cut(w, "=")
		c := meta.FindStatusCondition(conditions, name)
		if c == nil {
			return fmt.Errorf("no condition %s in %v", name, conditions)
		}
		if got := fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason); got != w {
			return fmt.Errorf("condition %s, want %s (%s)", got, w, c.Message)
		}
		if c.ObservedGeneration != generation {
			return fmt.Errorf("condition %s is of generation %d, the object of %d", c.Type, c.ObservedGeneration, generation)
		}
	}
	return nil
}
