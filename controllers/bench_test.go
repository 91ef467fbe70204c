package controllers

import (
	"fmt"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// BenchmarkReconcileAfterOneEdit is the time from the start of a build to its
// verdicts, data plane excluded, when one of n routes of 2 rules has changed.
func BenchmarkReconcileAfterOneEdit(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			c := &fakeCache{routes: make([]v1alpha1.ProxyRoute, n)}
			for i := range c.routes {
				o := testRoute()
				o.Name, o.UID = fmt.Sprintf("r%d", i), testRoute().UID
				o.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(fmt.Sprintf("h%d.example.com", i))}
				o.Spec.Rules = append(o.Spec.Rules, v1alpha1.RouteRule{
					Matches:     []v1alpha1.RouteMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchPathPrefix, Value: "/api"}}},
					BackendRefs: o.Spec.Rules[0].BackendRefs,
				})
				c.routes[i] = *o
			}
			r, _ := newTestReconciler(b, c, func(plan.Plan) error { return nil })
			if _, err := r.Reconcile(b.Context(), key{}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				c.routes[n/2].Generation++
				if _, err := r.Reconcile(b.Context(), key{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
