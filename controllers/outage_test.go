package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

const leaderGauge = "ferrum_controller_status_leader"

// leads waits until a replica writes statuses, or does not.
func leads(t *testing.T, r *replica, want float64) {
	t.Helper()
	eventually(t, func(context.Context) error {
		if got := r.metric(t, leaderGauge); got != want {
			return fmt.Errorf("%s is %v, want %v", leaderGauge, got, want)
		}
		return nil
	})
}

func TestEveryReplicaAppliesAndOneWritesStatuses(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	first := run(t, s.Config(), ns, "first")
	leads(t, first, 1)
	second := run(t, s.Config(), ns, "second")

	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	create(t, c, newClass(ns), service, slice, route)
	for _, r := range []*replica{first, second} {
		r.waitFor(t, "the route", func(p plan.Plan) bool { return routesOf(p, ns)["web"] == host(ns, "a") })
	}
	routeStatus(t, c, route, "Programmed=True/Programmed")
	if n := second.patches.Load(); n != 0 {
		t.Errorf("the second replica wrote %d statuses beside the first", n)
	}

	first.stop()
	lease := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: controllers.LeaseName}, lease); err != nil {
		t.Fatal(err)
	}
	if h := lease.Spec.HolderIdentity; h != nil && *h == "first" {
		t.Error("the first replica has stopped and keeps the Lease")
	}
	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "b"))} })
	status := routeStatus(t, c, route, "Programmed=True/Programmed")
	if len(status.Hostnames) != 1 || status.Hostnames[0] != host(ns, "b") {
		t.Errorf("status.hostnames %v after the takeover", status.Hostnames)
	}
	if second.patches.Load() == 0 {
		t.Error("who wrote that?")
	}
}

func TestLosingTheLeaseStopsWritesAndNothingElse(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	r := run(t, s.Config(), ns, "a")
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	create(t, c, newClass(ns), service, slice, route)
	routeStatus(t, c, route, "Programmed=True/Programmed")

	// Somebody takes the Lease by force and keeps it for a few seconds.
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: controllers.LeaseName}}
	edit(t, c, lease, func() {
		lease.Spec.HolderIdentity = new("somebody")
		lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
		lease.Spec.LeaseDurationSeconds = new(int32(4))
	})
	leads(t, r, 0)
	settled(t, r)
	patches := r.patches.Load()
	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "b"))} })
	r.waitFor(t, "the edit", func(p plan.Plan) bool { return routesOf(p, ns)["web"] == host(ns, "b") })
	if n := r.patches.Load(); n != patches && r.metric(t, leaderGauge) == 0 {
		t.Error("a status was written without the Lease")
	}

	// Nobody renews it: it is campaigned for again and what was missed is written.
	leads(t, r, 1)
	routeStatus(t, c, route, "Programmed=True/Programmed")
}

func TestAnOutageOfTheAPIServerChangesNothingAndEndsByItself(t *testing.T) {
	s := kubetest.Start(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	var w kubetest.Wire
	cfg := s.Config()
	cfg.Dial = w.Dial
	r := run(t, cfg, ns, "a")
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	create(t, c, newClass(ns), service, slice, route)
	routeStatus(t, c, route, "Programmed=True/Programmed")
	settled(t, r)
	before, _ := r.all()

	w.Cut() // or the API server would take a minute to see its watches off
	s.StopAPI(t)
	w.Mend()
	leads(t, r, 0) // the Lease could not be renewed for RenewDeadline
	eventually(t, func(context.Context) error {
		for _, kind := range []string{"ProxyRoute", "BackendPolicy", "ProxyClass", "Service", "EndpointSlice", "Namespace", "ReferenceGrant"} {
			if r.metric(t, "ferrum_controller_watch_errors_total", kind) < 2 {
				return fmt.Errorf("the watch of %s has not failed twice", kind)
			}
		}
		return nil
	})
	s.StartAPI(t)
	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "b"))} })
	r.waitFor(t, "the edit after the outage", func(p plan.Plan) bool { return routesOf(p, ns)["web"] == host(ns, "b") })
	routeStatus(t, c, route, "Programmed=True/Programmed")

	after, _ := r.all()
	for _, p := range after[len(before):] {
		if got := addresses(p, ns, "web"); len(routesOf(p, ns)) != 1 || got != "[10.0.0.1:8080]" {
			t.Errorf("a plan around the outage has routes %v and endpoints %s", routesOf(p, ns), got)
		}
	}
}

func TestItStartsBeforeTheAPIServerAndBeforeTheCRDs(t *testing.T) {
	s := kubetest.Start(t, kubetest.WithoutCRDs())
	c, ns := s.Client(t), s.Namespace(t, nil)
	s.StopAPI(t)
	r := run(t, s.Config(), ns, "a")
	logged := func(text string) {
		t.Helper()
		eventually(t, func(context.Context) error {
			if !r.log.has(text) {
				return fmt.Errorf("the log does not say %q", text)
			}
			return nil
		})
	}
	logged("cannot ask the API server")
	s.StartAPI(t)
	logged("kubectl apply -k config/crd")
	if plans, _ := r.all(); len(plans) != 0 {
		t.Fatal("a plan before the CRDs exist")
	}
	// Ours alone: Gateway API is not installed in this cluster, for now.
	if _, err := envtest.InstallCRDs(s.Config(), envtest.CRDInstallOptions{Paths: []string{"../config/crd/bases"}, ErrorIfPathMissing: true}); err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "nothing, as the cluster has nothing", func(p plan.Plan) bool { return len(p.Routes) == 0 })

	// ReferenceGrant comes, is used, is revoked, and goes.
	backends := s.Namespace(t, nil)
	service, slice := newBackend(backends, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	route.Spec.Rules[0].BackendRefs[0].Namespace = &backends
	create(t, c, newClass(ns), service, slice, route)
	routeStatus(t, c, route, "ResolvedRefs=False/RefNotPermitted")

	grant := func() *gatewayv1.ReferenceGrant {
		return &gatewayv1.ReferenceGrant{
			ObjectMeta: metav1.ObjectMeta{Namespace: backends, Name: "shop"},
			Spec: gatewayv1.ReferenceGrantSpec{
				From: []gatewayv1.ReferenceGrantFrom{{Group: v1alpha1.GroupName, Kind: "ProxyRoute", Namespace: gatewayv1.Namespace(ns)}},
				To:   []gatewayv1.ReferenceGrantTo{{Kind: "Service"}},
			},
		}
	}
	s.InstallCRDs(t)
	create(t, c, grant())
	routeStatus(t, c, route, "ResolvedRefs=True/ResolvedRefs")
	r.waitFor(t, "the endpoint in the other namespace", func(p plan.Plan) bool { return addresses(p, backends, "web") == "[10.0.0.1:8080]" })
	if err := c.Delete(t.Context(), grant()); err != nil {
		t.Fatal(err)
	}
	routeStatus(t, c, route, "ResolvedRefs=False/RefNotPermitted")
	create(t, c, grant())
	routeStatus(t, c, route, "ResolvedRefs=True/ResolvedRefs")

	def := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: "referencegrants.gateway.networking.k8s.io"},
	}
	if err := c.Delete(t.Context(), def); err != nil {
		t.Fatal(err)
	}
	routeStatus(t, c, route, "ResolvedRefs=False/RefNotPermitted")
	logged("ReferenceGrant is no longer served")
	eventually(t, func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(def), def); client.IgnoreNotFound(err) != nil || err == nil {
			return errors.Join(errors.New("the definition is still there"), err)
		}
		return nil
	})
	s.InstallCRDs(t)
	create(t, c, grant())
	routeStatus(t, c, route, "ResolvedRefs=True/ResolvedRefs")
}
