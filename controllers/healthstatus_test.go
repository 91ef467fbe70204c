package controllers_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// healthOfPlan gives all pools of the plan in force the same health, and knows
// no others.
type healthOfPlan struct {
	r *recorder
	h plan.PoolHealth
}

func (f healthOfPlan) PoolHealth(k plan.PoolKey) (plan.PoolHealth, bool) {
	plans, _ := f.r.all()
	if len(plans) == 0 {
		return plan.PoolHealth{}, false
	}
	for _, p := range plans[len(plans)-1].Pools {
		if p.Key == k {
			return f.h, true
		}
	}
	return plan.PoolHealth{}, false
}

// waitForEvent tells of an endpoint of a Service that is ejected until there is
// an Event: what was told before the replica had the Lease is lost.
func waitForEvent(t *testing.T, c client.Client, transitions *controllers.Transitions, ns, service string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		transitions.OnTransition(plan.Transition{
			Pool:     plan.PoolKey{Namespace: ns, Service: service, Port: 80},
			Endpoint: netip.MustParseAddrPort("10.0.0.1:8080"), From: "serving", To: "ejected", Why: "5 failures in a row",
		})
		var all corev1.EventList
		if err := c.List(ctx, &all, client.InNamespace(ns)); err != nil {
			return err
		}
		var target corev1.Service
		if err := c.Get(ctx, types.NamespacedName{Namespace: ns, Name: service}, &target); err != nil {
			return err
		}
		for _, e := range all.Items {
			o := e.InvolvedObject
			if o.Kind == "Service" && o.Name == service && o.UID == target.UID && e.Type == "Warning" && e.Reason == "Ejected" &&
				strings.Contains(e.Message, "10.0.0.1:8080 (5 failures in a row)") {
				return nil
			}
		}
		return fmt.Errorf("no event of the Service among %d", len(all.Items))
	})
}

func TestStatusCountsTheEndpointsOfEachRule(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	r := run(t, s.Config(), ns, "a", func(o *controllers.Options) {
		o.Health = healthOfPlan{o.Applier.(*recorder), plan.PoolHealth{Ready: 3, Draining: 1, Ejected: 4, Unhealthy: 2, Panic: true}}
	})
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	route.Spec.Rules[0].Name = "api"
	create(t, c, newClass(ns), service, slice, route)
	status := routeStatus(t, c, route, "Programmed=True/Programmed", "BackendsHealthy=False/Panic")
	want := v1alpha1.RuleStatus{Name: "api", Endpoints: v1alpha1.EndpointCounts{Ready: 3, Draining: 1, Ejected: 4, Unhealthy: 2}}
	if len(status.Rules) != 1 || status.Rules[0] != want {
		t.Errorf("rules %v, want %v", status.Rules, want)
	}
	r.stop()
}
