package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// fakeCache lists what it holds.
type fakeCache struct {
	client.Reader
	routes  []v1alpha1.ProxyRoute
	fail    error
	listing func(client.ObjectList)
}

func (c *fakeCache) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if c.listing != nil {
		c.listing(list)
	}
	switch list := list.(type) {
	case *v1alpha1.ProxyRouteList:
		list.Items = c.routes
	case *v1alpha1.ProxyClassList:
		list.Items = []v1alpha1.ProxyClass{*testClass()}
	case *corev1.ServiceList:
		list.Items = []corev1.Service{*testService()}
	case *discoveryv1.EndpointSliceList:
		list.Items = []discoveryv1.EndpointSlice{*testSlice()}
	case *corev1.NamespaceList:
		list.Items = []corev1.Namespace{*testNamespace()}
	}
	return c.fail
}

// applierFunc is an Applier.
type applierFunc func(plan.Plan) error

func (f applierFunc) Apply(p plan.Plan) error { return f(p) }

// grantsOf is a grantLister.
type grantsOf []*gatewayv1.ReferenceGrant

func (g grantsOf) list(context.Context) ([]*gatewayv1.ReferenceGrant, error) { return g, nil }

// published keeps the latest verdicts.
type published struct{ set verdictSet }

func (p *published) publish(set verdictSet) { p.set = set }

func newTestReconciler(t testing.TB, c *fakeCache, apply applierFunc) (*reconciler, *published) {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p := &published{}
	return &reconciler{reader: c, grants: grantsOf(nil), applier: apply, verdicts: p,
		events: &trigger{holdOff: holdOff}, metrics: m, log: logr.Discard()}, p
}

func programmedOf(t *testing.T, p *published) translate.Condition {
	t.Helper()
	for _, c := range p.set[keyOf(testRoute())].conditions {
		if c.Type == v1alpha1.ConditionProgrammed {
			return c
		}
	}
	t.Fatalf("no Programmed in %v", p.set)
	return translate.Condition{}
}

func TestARefusedPlanIsPendingUntilItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused error
		applies := 0
		r, p := newTestReconciler(t, &fakeCache{routes: []v1alpha1.ProxyRoute{*testRoute()}}, func(got plan.Plan) error {
			applies++
			if len(got.Routes) != 1 || len(got.Pools) != 1 {
				t.Errorf("the plan has %d routes and %d pools", len(got.Routes), len(got.Pools))
			}
			return refused
		})
		q := queues["plain queue"]()
		defer q.ShutDown()

		refused = errors.New("out of memory")
		r.events.fire(q)
		_ = wait(t.Context(), time.Second)
		if _, err := r.Reconcile(t.Context(), key{}); !errors.Is(err, refused) {
			t.Fatalf("error %v, want that of the Applier, so that the queue tries again", err)
		}
		if c := programmedOf(t, p); c.Reason != v1alpha1.ReasonPending || !strings.Contains(c.Message, "out of memory") {
			t.Errorf("Programmed %+v, want Pending with the error", c)
		}
		refused = nil
		_ = wait(t.Context(), time.Second)
		if _, err := r.Reconcile(t.Context(), key{}); err != nil {
			t.Fatal(err)
		}
		if c := programmedOf(t, p); c.Status != metav1.ConditionTrue {
			t.Errorf("Programmed %+v, want True", c)
		}
		if since := r.events.take(); !since.IsZero() {
			t.Errorf("the event of %v counts as unanswered", since)
		}
		if applies != 2 || testutil.ToFloat64(r.metrics.applyFailures) != 1 || testutil.ToFloat64(r.metrics.builds) != 2 {
			t.Errorf("%d applies, metrics %v failures of %v builds", applies, testutil.ToFloat64(r.metrics.applyFailures), testutil.ToFloat64(r.metrics.builds))
		}
		if n := testutil.ToFloat64(r.metrics.routes.WithLabelValues("Programmed", "True")); n != 1 {
			t.Errorf("%v programmed routes counted, want 1", n)
		}
		const want = `
# HELP ferrum_controller_propagation_seconds Time from the first event of a change to the data plane serving it.
# TYPE ferrum_controller_propagation_seconds histogram
ferrum_controller_propagation_seconds_bucket{le="0.025"} 0
ferrum_controller_propagation_seconds_bucket{le="0.05"} 0
ferrum_controller_propagation_seconds_bucket{le="0.1"} 0
ferrum_controller_propagation_seconds_bucket{le="0.25"} 0
ferrum_controller_propagation_seconds_bucket{le="0.5"} 0
ferrum_controller_propagation_seconds_bucket{le="1"} 0
ferrum_controller_propagation_seconds_bucket{le="2.5"} 1
ferrum_controller_propagation_seconds_bucket{le="5"} 1
ferrum_controller_propagation_seconds_bucket{le="10"} 1
ferrum_controller_propagation_seconds_bucket{le="30"} 1
ferrum_controller_propagation_seconds_bucket{le="60"} 1
ferrum_controller_propagation_seconds_bucket{le="+Inf"} 1
ferrum_controller_propagation_seconds_sum 2
ferrum_controller_propagation_seconds_count 1
`
		if err := testutil.CollectAndCompare(r.metrics.propagation, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	})
}

func TestAnApplierThatPanicsLosesNoEvent(t *testing.T) {
	r, _ := newTestReconciler(t, &fakeCache{}, func(plan.Plan) error { panic("a bug") })
	q := queues["plain queue"]()
	defer q.ShutDown()
	r.events.fire(q)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _ = r.Reconcile(t.Context(), key{})
	}()
	if r.events.take().IsZero() {
		t.Error("the event is forgotten")
	}
}

func TestACacheThatCannotBeListedLeadsToNoPlan(t *testing.T) {
	c := &fakeCache{fail: errors.New("not cached")}
	r, p := newTestReconciler(t, c, func(plan.Plan) error { t.Error("a plan from half a snapshot"); return nil })
	if _, err := r.Reconcile(t.Context(), key{}); !errors.Is(err, c.fail) {
		t.Errorf("error %v, want %v", err, c.fail)
	}
	if p.set != nil {
		t.Error("verdicts from half a snapshot")
	}
}

func TestServicesAreListedAfterItIsKnownWhichMatter(t *testing.T) {
	var r *reconciler
	seen := 0
	c := &fakeCache{routes: []v1alpha1.ProxyRoute{*testRoute()}, listing: func(list client.ObjectList) {
		switch list.(type) {
		case *corev1.ServiceList, *discoveryv1.EndpointSliceList:
			seen++
			if !r.referred.service(testService()) {
				t.Errorf("%T is listed before its events are let through: a change in between would be lost", list)
			}
		}
	}}
	r, _ = newTestReconciler(t, c, func(plan.Plan) error { return nil })
	if _, err := r.Reconcile(t.Context(), key{}); err != nil {
		t.Fatal(err)
	}
	if seen != 2 {
		t.Errorf("%d lists seen, want 2", seen)
	}
}

func TestTheReplicasAreCountedBeforeThePlanIsApplied(t *testing.T) {
	replicas := -1
	r, _ := newTestReconciler(t, &fakeCache{}, func(plan.Plan) error {
		if replicas != 1 {
			t.Errorf("%d replicas when the plan is applied", replicas)
		}
		return nil
	})
	slice := testSlice()
	r.replicasOf = types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
	r.replicas = func(n int) { replicas = n }
	if _, err := r.Reconcile(t.Context(), key{}); err != nil {
		t.Fatal(err)
	}
	if !r.referred.slice(slice) {
		t.Error("a change of the replicas would lead to no build")
	}
}
