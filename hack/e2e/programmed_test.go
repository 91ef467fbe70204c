package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// fleet is replicas that know each other by the EndpointSlice of the Service
// "ferrum" in the namespace "default".
type fleet struct {
	*testing.T
	client client.Client
	slice  *discoveryv1.EndpointSlice
	polls  atomic.Int64 // questions to any replica

	mu       sync.Mutex
	replicas []*replica
	wires    []*kubetest.Wire // of each to the API server
}

// countedPeers counts what is asked.
type countedPeers struct {
	controllers.Peers
	n *atomic.Int64
}

func (p countedPeers) Served(ctx context.Context, r netip.Addr, uids []string) ([]int64, error) {
	p.n.Add(1)
	return p.Peers.Served(ctx, r, uids)
}

// podAddr is the address of a replica in the EndpointSlice; loopback may not be
// in one.
func podAddr(i int) string { return fmt.Sprintf("198.51.100.%d", 10+i) }

// identity is the name of a replica's Pod.
func identity(i int) string { return fmt.Sprintf("ferrum-%d", i) }

// dial leads the addresses of replicas to their admin ports on loopback.
func (f *fleet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.replicas {
		if address == podAddr(i)+":9090" {
			return (&net.Dialer{}).DialContext(ctx, network, r.engine.Addr("admin").String())
		}
	}
	return nil, fmt.Errorf("%s is no replica", address)
}

// servingFleet starts three replicas that serve a route, and returns that as it is
// then.
func servingFleet(t *testing.T) (f *fleet, b *backends, shop *v1alpha1.ProxyRoute) {
	t.Helper()
	s := kubetest.Start(t)
	b = &backends{}
	b.serve(t, "198.51.100.1:8080", "one")
	f = startFleet(t, s, b, 3)
	shop = route("default", "shop", "shop.example.com", "/", "one")
	create(t, f.client, class(), shop)
	create(t, f.client, service("default", "one", "198.51.100.1:8080")...)
	programmed(t, f.client, shop)
	return f, b, shop
}

// startFleet starts n replicas, of which the first writes statuses.
func startFleet(t *testing.T, s *kubetest.Server, b *backends, n int) *fleet {
	f := &fleet{T: t, client: s.Client(t)}
	name, port, tcp := "http", int32(8080), corev1.ProtocolTCP
	f.slice = &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "ferrum-1", Labels: map[string]string{discoveryv1.LabelServiceName: "ferrum"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
	for i := range n {
		f.slice.Endpoints = append(f.slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{podAddr(i)}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: identity(i)},
		})
	}
	create(t, f.client, f.slice)
	for i := range n {
		w := &kubetest.Wire{}
		cfg := s.Config()
		cfg.Dial = w.Dial
		r := start(t, cfg, b, func(d *dataplane.Config, o *controllers.Options) {
			d.Admin = "127.0.0.1:0"
			o.ReplicasOf = types.NamespacedName{Namespace: "default", Name: "ferrum"}
			o.Peers = countedPeers{controllers.NewAdminPorts(9090, nil, f.dial), &f.polls}
			o.Identity = identity(i)
		})
		f.mu.Lock()
		f.replicas, f.wires = append(f.replicas, r), append(f.wires, w)
		f.mu.Unlock()
		if i == 0 {
			f.leads(identity(i))
		}
	}
	return f
}

// leads waits until a replica has the Lease.
func (f *fleet) leads(identity string) {
	f.Helper()
	eventually(f.T, identity+" has the Lease", func() error {
		var lease coordinationv1.Lease
		if err := f.client.Get(f.Context(), client.ObjectKey{Namespace: "default", Name: controllers.LeaseName}, &lease); err != nil {
			return err
		}
		if h := lease.Spec.HolderIdentity; h == nil || *h != identity {
			return fmt.Errorf("it is held by %v", h)
		}
		return nil
	})
}

// edit gives the route another path and returns once the API server has it.
func (f *fleet) edit(r *v1alpha1.ProxyRoute, path string) {
	f.Helper()
	eventually(f.T, "the route is edited", func() error {
		if err := f.client.Get(f.Context(), client.ObjectKeyFromObject(r), r); err != nil {
			return err
		}
		r.Spec.Rules[0].Matches[0].Path.Value = path
		return f.client.Update(f.Context(), r) // again after a conflict with a status
	})
}

// eachServes asks replicas, one by one and now, for the generation of a route that
// they serve.
func (f *fleet) eachServes(r *v1alpha1.ProxyRoute, replicas []*replica) {
	f.Helper()
	for i, replica := range replicas {
		res, err := replica.http.Get("http://" + replica.engine.Addr("admin").String() + "/debug/routes")
		if err != nil {
			f.Fatal(err)
		}
		var all []dataplane.RouteInfo
		err = json.NewDecoder(res.Body).Decode(&all)
		_ = res.Body.Close()
		if err != nil {
			f.Fatal(err)
		}
		if len(all) != 1 || all[0].UID != string(r.UID) || all[0].Generation < r.Generation {
			f.Errorf("Programmed is True for generation %d, and replica %d serves %+v", r.Generation, i, all)
		}
	}
}

// condition returns Programmed of the latest version of a route, for its
// generation.
func (f *fleet) condition(r *v1alpha1.ProxyRoute) (metav1.Condition, error) {
	if err := f.client.Get(f.Context(), client.ObjectKeyFromObject(r), r); err != nil {
		return metav1.Condition{}, err
	}
	c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionProgrammed)
	if c == nil || c.ObservedGeneration != r.Generation {
		return metav1.Condition{}, fmt.Errorf("Programmed is %+v at generation %d", c, r.Generation)
	}
	return *c, nil
}

func TestProgrammedMeansThatEachReplicaServesTheGeneration(t *testing.T) {
	t.Parallel()
	f, b, shop := servingFleet(t)
	f.eachServes(shop, f.replicas)
	for i := range 10 {
		f.edit(shop, fmt.Sprintf("/%d", i))
		programmed(t, f.client, shop)
		f.eachServes(shop, f.replicas)
		if c := shop.Status.Replicas; c == nil || c.Programmed != 3 || c.Total != 3 {
			t.Errorf("status.replicas %+v", c)
		}
	}

	// Endpoints that move are no reason to ask.
	asked := f.polls.Load()
	var slice discoveryv1.EndpointSlice
	for i := range 5 {
		if err := f.client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "one-1"}, &slice); err != nil {
			t.Fatal(err)
		}
		addr, text := fmt.Sprintf("198.51.100.%d", 100+i), fmt.Sprint("moved ", i)
		b.serve(t, addr+":8080", text)
		slice.Endpoints[0].Addresses[0] = addr
		if err := f.client.Update(t.Context(), &slice); err != nil {
			t.Fatal(err)
		}
		for _, r := range f.replicas {
			r.serves("shop.example.com", "/9", 200, text)
		}
	}
	if n := f.polls.Load(); n != asked {
		t.Errorf("%d questions while no route changed", n-asked)
	}
}

func TestAReplicaThatIsCutOffIsNamedUntilItServesAgain(t *testing.T) {
	t.Parallel()
	f, _, shop := servingFleet(t)

	f.wires[2].Cut()
	f.edit(shop, "/edited")
	want := fmt.Sprintf("behind: ferrum-2 (%s) serves generation %d", podAddr(2), shop.Generation-1)
	isBehind := func() error {
		c, err := f.condition(shop)
		if err == nil && (c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonPending || c.Message != want) {
			err = fmt.Errorf("%+v, want %q", c, want)
		}
		return err
	}
	eventually(t, "the replica is named", isBehind)
	asked := f.polls.Load()
	eventually(t, "it is asked five times more", func() error {
		if n := f.polls.Load() - asked; n < 5 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if err := isBehind(); err != nil {
		t.Fatal(err)
	}
	if c := shop.Status.Replicas; c == nil || c.Programmed != 2 || c.Total != 3 {
		t.Errorf("status.replicas %+v", c)
	}
	f.wires[2].Mend()
	programmed(t, f.client, shop)
	f.eachServes(shop, f.replicas)
}

func TestAnotherWriterOfStatusesKeepsWhatIsTrue(t *testing.T) {
	t.Parallel()
	f, _, shop := servingFleet(t)
	version := shop.ResourceVersion

	f.slice.Endpoints = f.slice.Endpoints[1:]
	if err := f.client.Update(t.Context(), f.slice); err != nil {
		t.Fatal(err)
	}
	f.replicas[0].stop()
	asked := f.polls.Load()
	eventually(t, "the new writer has asked both", func() error {
		if n := f.polls.Load() - asked; n < 2 {
			return fmt.Errorf("%d questions", n)
		}
		return nil
	})
	if _, err := f.condition(shop); err != nil || shop.ResourceVersion != version {
		t.Errorf("the status was written: %+v, %v", shop.Status, err)
	}
	f.edit(shop, "/edited")
	programmed(t, f.client, shop)
	f.eachServes(shop, f.replicas[1:])
	if c := shop.Status.Replicas; c == nil || c.Programmed != 2 || c.Total != 2 {
		t.Errorf("status.replicas %+v", c)
	}
}
