package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// patience bounds every wait for something that is to happen soon; a machine
// that is busy may need it.
const patience = 60 * time.Second

// replica is one process' worth of ferrum: the controllers and the data plane.
type replica struct {
	t      *testing.T
	engine *dataplane.Engine
	stop   func() // ends it and waits for that
	url    string
	http   *http.Client
}

// backends leads addresses that endpoints have in the API server to servers on
// loopback.
type backends struct {
	mu sync.Mutex
	to map[string]string
}

func (b *backends) dial(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	b.mu.Lock()
	to := b.to[addr.String()]
	b.mu.Unlock()
	if to == "" {
		return nil, fmt.Errorf("no backend has the address %s", addr)
	}
	return net.DialTimeout("tcp", to, timeout)
}

// serve answers at addr with text.
func (b *backends) serve(t *testing.T, addr, text string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to == nil {
		b.to = make(map[string]string)
	}
	b.to[addr] = s.Listener.Addr().String()
}

// start runs a replica until the test ends, with settings that with changes.
func start(t *testing.T, cfg *rest.Config, b *backends, with ...func(*dataplane.Config, *controllers.Options)) *replica {
	d := dataplane.Config{HTTP: "127.0.0.1:0", Dial: b.dial, DrainTimeout: 5 * time.Second}
	o := controllers.Options{
		LeaseNamespace: "default", Registerer: prometheus.NewRegistry(),
		Lease: controllers.LeaseTimes{Duration: 4 * time.Second, RenewDeadline: 3 * time.Second, RetryPeriod: 500 * time.Millisecond},
	}
	for _, f := range with {
		f(&d, &o)
	}
	e := dataplane.New(d)
	o.Applier = e
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := controllers.Run(ctx, cfg, o); err != nil {
			t.Error(err)
		}
	})
	stop := func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	r := &replica{t: t, engine: e, stop: stop, http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
	t.Cleanup(r.http.CloseIdleConnections)
	eventually(t, "the replica listens", func() error {
		if e.Addr("http") == nil {
			return fmt.Errorf("no address yet")
		}
		r.url = "http://" + e.Addr("http").String()
		return nil
	})
	return r
}

// get returns the status and the body of a request for host.
func (r *replica) get(host, path string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	res, err := r.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// serves waits until a request for host gets the status and, unless it is
// empty, the text.
func (r *replica) serves(host, path string, status int, text string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("http://%s%s answers %d %q", host, path, status, text), func() error {
		s, b, err := r.get(host, path)
		if err == nil && (s != status || text != "" && b != text) {
			err = fmt.Errorf("got %d %q", s, b)
		}
		return err
	})
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func create(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// service is a Service and the EndpointSlice of its one endpoint.
func service(ns, name, addr string) []client.Object {
	ap := netip.MustParseAddrPort(addr)
	port, portName, tcp := int32(ap.Port()), "http", corev1.ProtocolTCP
	return []client.Object{
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: portName, Port: 80, TargetPort: intstr.FromInt32(port)}}},
		},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &tcp}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{ap.Addr().String()}}},
		},
	}
}

// route sends a path prefix of a host to port 80 of a Service.
func route(ns, name, host, prefix, service string) *v1alpha1.ProxyRoute {
	return &v1alpha1.ProxyRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.ProxyRouteSpec{
			Hostnames: []v1alpha1.Hostname{v1alpha1.Hostname(host)},
			Rules: []v1alpha1.RouteRule{{
				Matches:     []v1alpha1.RouteMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchPathPrefix, Value: prefix}}},
				BackendRefs: []v1alpha1.BackendRef{{Name: service, Port: intstr.FromInt32(80)}},
			}},
		},
	}
}

func class() *v1alpha1.ProxyClass {
	return &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: "ferrum"}}
}

// programmed waits until the route's conditions are True for its generation.
func programmed(t *testing.T, c client.Client, r *v1alpha1.ProxyRoute) {
	t.Helper()
	eventually(t, "the route is programmed", func() error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(r), r); err != nil {
			return err
		}
		for _, want := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs, v1alpha1.ConditionProgrammed} {
			cond := meta.FindStatusCondition(r.Status.Conditions, want)
			if cond == nil || cond.Status != metav1.ConditionTrue || cond.ObservedGeneration != r.Generation {
				return fmt.Errorf("%s is %+v at generation %d", want, cond, r.Generation)
			}
		}
		return nil
	})
}

func TestObjectsBecomeTrafficAreSwappedAndGone(t *testing.T) {
	t.Parallel()
	s := kubetest.Start(t)
	c := s.Client(t)
	ns := s.Namespace(t, nil)
	b := &backends{}
	b.serve(t, "198.51.100.1:8080", "one")
	b.serve(t, "198.51.100.2:8080", "two")
	first, second := start(t, s.Config(), b), start(t, s.Config(), b)

	shop := route(ns, "shop", "shop.example.com", "/cart", "one")
	create(t, c, class(), shop)
	create(t, c, service(ns, "one", "198.51.100.1:8080")...)
	create(t, c, service(ns, "two", "198.51.100.2:8080")...)
	for _, r := range []*replica{first, second} {
		r.serves("shop.example.com", "/cart/7", 200, "one")
		r.serves("shop.example.com", "/cartoon", 404, "")
		r.serves("other.example.com", "/cart", 404, "")
	}
	programmed(t, c, shop)

	shop.Spec.Rules[0].BackendRefs[0].Name = "two"
	if err := c.Update(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*replica{first, second} {
		r.serves("shop.example.com", "/cart", 200, "two")
	}
	programmed(t, c, shop)

	if err := c.Delete(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*replica{first, second} {
		r.serves("shop.example.com", "/cart", 404, "")
	}
}

func TestBeforeTheKindsExistRequestsGet503AndTheyAreServedAfter(t *testing.T) {
	t.Parallel()
	s := kubetest.Start(t, kubetest.WithoutCRDs())
	b := &backends{}
	b.serve(t, "198.51.100.1:8080", "one")
	r := start(t, s.Config(), b)
	r.serves("shop.example.com", "/", 503, "503 no_table\n")
	s.InstallCRDs(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	create(t, c, class(), route(ns, "shop", "shop.example.com", "/", "one"))
	create(t, c, service(ns, "one", "198.51.100.1:8080")...)
	r.serves("shop.example.com", "/", 200, "one")
}

// TestTrafficFlowsWhileTheAPIServerIsAway takes the API server away for a
// minute, longer than every lease and watch lasts, and asks all the while.
func TestTrafficFlowsWhileTheAPIServerIsAway(t *testing.T) {
	t.Parallel()
	const away = time.Minute
	s := kubetest.Start(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	b := &backends{}
	b.serve(t, "198.51.100.1:8080", "one")
	b.serve(t, "198.51.100.2:8080", "two")
	r := start(t, s.Config(), b)
	create(t, c, class(), route(ns, "shop", "shop.example.com", "/", "one"))
	create(t, c, service(ns, "one", "198.51.100.1:8080")...)
	r.serves("shop.example.com", "/", 200, "one")

	s.StopAPI(t)
	asked := 0
	for end := time.Now().Add(away); time.Now().Before(end); asked++ {
		if status, body, err := r.get("shop.example.com", "/"); err != nil || status != 200 || body != "one" {
			t.Fatalf("request %d without an API server: %d %q %v", asked, status, body, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d requests answered while the API server was away", asked)

	s.StartAPI(t)
	create(t, c, service(ns, "two", "198.51.100.2:8080")...)
	create(t, c, route(ns, "more", "more.example.com", "/", "two"))
	r.serves("more.example.com", "/", 200, "two")
	r.serves("shop.example.com", "/", 200, "one")
}
