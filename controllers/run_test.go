package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestTheFirstPlanIsComplete(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	create(t, c, newClass(ns))
	const n = 40
	for i := range n {
		service, slice := newBackend(ns, fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.0.%d", i+1))
		create(t, c, service, slice, newRoute(ns, fmt.Sprintf("r%d", i), host(ns, fmt.Sprintf("h%d", i)), service.Name))
	}
	r := run(t, s.Config(), ns, "a")
	r.waitFor(t, "anything", func(plan.Plan) bool { return true })
	plans, _ := r.all()
	if got := len(routesOf(plans[0], ns)); got != n {
		t.Errorf("the first plan has %d routes, want %d", got, n)
	}
	for i := range n {
		if got, want := addresses(plans[0], ns, fmt.Sprintf("s%d", i)), fmt.Sprintf("[10.0.0.%d:8080]", i+1); got != want {
			t.Errorf("the first plan has endpoints %s of service %d, want %s", got, i, want)
		}
	}
}

func TestThePlanFollowsTheObjects(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, map[string]string{"team": "a"})
	r := run(t, s.Config(), ns, "a")
	r.waitFor(t, "nothing of ours", func(p plan.Plan) bool { return len(routesOf(p, ns)) == 0 })

	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	class := newClass(ns)
	create(t, c, class, service, slice, route)
	r.waitFor(t, "the route and its endpoint", func(p plan.Plan) bool {
		return maps.Equal(routesOf(p, ns), map[string]string{"web": host(ns, "a")}) && addresses(p, ns, "web") == "[10.0.0.1:8080]"
	})

	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "b"))} })
	r.waitFor(t, "the edited host", func(p plan.Plan) bool { return routesOf(p, ns)["web"] == host(ns, "b") })

	edit(t, c, slice, func() { slice.Endpoints = endpoints("10.0.0.1", "10.0.0.2") })
	r.waitFor(t, "two endpoints", func(p plan.Plan) bool { return addresses(p, ns, "web") == "[10.0.0.1:8080 10.0.0.2:8080]" })

	edit(t, c, service, func() { service.Spec.Ports[0].Name = "web" })
	r.waitFor(t, "no endpoint of a port that the slice does not have", func(p plan.Plan) bool { return addresses(p, ns, "web") == "[]" })
	edit(t, c, service, func() { service.Spec.Ports[0].Name = "http" })
	r.waitFor(t, "the endpoints again", func(p plan.Plan) bool { return addresses(p, ns, "web") == "[10.0.0.1:8080 10.0.0.2:8080]" })

	edit(t, c, class, func() {
		class.Spec.AllowedRoutes = []v1alpha1.RouteGrant{{Namespaces: &v1alpha1.RouteNamespaces{
			From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}}}}
	})
	r.waitFor(t, "no route that its class does not grant", func(p plan.Plan) bool { return len(routesOf(p, ns)) == 0 })
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	edit(t, c, namespace, func() { namespace.Labels["team"] = "b" })
	r.waitFor(t, "the route of a namespace with the label", func(p plan.Plan) bool { return len(routesOf(p, ns)) == 1 })

	if err := c.Delete(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "no deleted route", func(p plan.Plan) bool { return len(routesOf(p, ns)) == 0 })
}

func TestStatusesSayWhatBecameOfTheObjects(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	r := run(t, s.Config(), ns, "a")

	service, slice := newBackend(ns, "web", "10.0.0.1")
	class := newClass(ns)
	class.Spec.AllowedRoutes = []v1alpha1.RouteGrant{{Hostnames: []v1alpha1.GrantedHostname{"*.example.com"}}}
	route := newRoute(ns, "web", host(ns, "a"), "web")
	older := &v1alpha1.BackendPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "a"},
		Spec: v1alpha1.BackendPolicySpec{TargetRefs: []v1alpha1.PolicyTargetRef{{Name: "web"}}}}
	younger := older.DeepCopy()
	younger.Name = "b"
	create(t, c, class, service, slice, route, older, younger)

	status := routeStatus(t, c, route, "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "Conflicted=False/NoConflict", "Programmed=True/Programmed")
	if got := strings.Join(status.Hostnames, " "); got != host(ns, "a") {
		t.Errorf("status.hostnames %s", got)
	}
	eventually(t, func(ctx context.Context) error {
		err := errors.Join(c.Get(ctx, client.ObjectKeyFromObject(class), class), c.Get(ctx, client.ObjectKeyFromObject(older), older), c.Get(ctx, client.ObjectKeyFromObject(younger), younger))
		return errors.Join(err,
			hasConditions(class.Status.Conditions, class.Generation, []string{"Accepted=True/Accepted"}),
			hasConditions(older.Status.Conditions, older.Generation, []string{"Accepted=True/Accepted", "Conflicted=False/NoConflict"}),
			hasConditions(younger.Status.Conditions, younger.Generation, []string{"Conflicted=True/TargetTaken"}))
	})

	// Another controller has a condition on the route as well.
	audited := metav1.Condition{Type: "example.com/Audited", Status: metav1.ConditionTrue, Reason: "Done", LastTransitionTime: metav1.Now()}
	meta.SetStatusCondition(&route.Status.Conditions, audited)
	if err := c.Status().Update(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	since := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted).LastTransitionTime

	edit(t, c, route, func() { route.Spec.Rules[0].BackendRefs[0].Port = intstr.FromInt32(81) })
	status = routeStatus(t, c, route, "Accepted=True/Accepted", "ResolvedRefs=False/PortNotFound")
	if got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted).LastTransitionTime; !got.Equal(&since) {
		t.Errorf("lastTransitionTime of Accepted moved from %v to %v without a transition", since, got)
	}
	if meta.FindStatusCondition(status.Conditions, audited.Type) == nil {
		t.Error("the condition of another controller is gone")
	}

	// Somebody takes ours away. Nothing is built for it, but it is made good.
	meta.RemoveStatusCondition(&route.Status.Conditions, v1alpha1.ConditionAccepted)
	if err := c.Status().Update(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	routeStatus(t, c, route, "Accepted=True/Accepted", "ResolvedRefs=False/PortNotFound")

	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{"a.example.org"} })
	status = routeStatus(t, c, route, "Accepted=False/NotAllowedByClass", "Programmed=False/Invalid")
	if len(status.Hostnames) != 0 {
		t.Errorf("status.hostnames %v of a route that is not served", status.Hostnames)
	}

	r.failWith(errors.New("the table is full"))
	edit(t, c, route, func() { route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host(ns, "b"))} })
	status = routeStatus(t, c, route, "Programmed=False/Pending")
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionProgrammed); !strings.Contains(c.Message, "the table is full") {
		t.Errorf("Programmed does not say why: %q", c.Message)
	}
	r.failWith(nil) // nobody edits anything: it is tried again by itself
	routeStatus(t, c, route, "Programmed=True/Programmed")
}

func TestAWriteOfAStatusLeadsToNoBuildAndNoOtherWrite(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	create(t, c, newClass(ns), service, slice, route)
	r := run(t, s.Config(), ns, "a")
	routeStatus(t, c, route, "Programmed=True/Programmed")
	settled(t, r)
	builds, patches := r.metric(t, "ferrum_controller_builds_total"), r.patches.Load()
	before, _ := r.all()

	// What must not count: a status, labels and annotations, a Service that
	// nothing names.
	meta.SetStatusCondition(&route.Status.Conditions, metav1.Condition{Type: "example.com/Audited", Status: metav1.ConditionTrue, Reason: "Done"})
	if err := c.Status().Update(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	version := route.ResourceVersion
	edit(t, c, slice, func() { slice.Annotations = map[string]string{"example.com/note": "x"} })
	edit(t, c, service, func() { service.Annotations = map[string]string{"example.com/note": "x"} })
	stranger, strangers := newBackend(ns, "stranger", "10.0.0.9")
	create(t, c, stranger, strangers)

	// What must count comes after all that: one build, one write.
	second := newRoute(ns, "second", host(ns, "b"), "web")
	create(t, c, second)
	routeStatus(t, c, second, "Programmed=True/Programmed")
	settled(t, r)
	if got := r.metric(t, "ferrum_controller_builds_total") - builds; got != 1 {
		t.Errorf("%v builds for one event that counts", got)
	}
	if got := r.patches.Load() - patches; got != 1 {
		t.Errorf("%d statuses written, want that of the new route alone", got)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(route), route); err != nil || route.ResourceVersion != version {
		t.Errorf("the old route has moved from version %s to %s (%v)", version, route.ResourceVersion, err)
	}

	// And the routes that did not change are the same pointers, which is what
	// makes an Apply cheap.
	after, _ := r.all()
	old, now := routeIn(t, before[len(before)-1], ns, "web"), routeIn(t, after[len(after)-1], ns, "web")
	if old != now {
		t.Error("a route was compiled again because of its status")
	}
}

// settled waits until the replica has been idle for half a second: what follows
// from a write comes back within milliseconds.
func settled(t *testing.T, r *replica) {
	t.Helper()
	var last [2]float64
	same := 0
	eventually(t, func(context.Context) error {
		now := [2]float64{float64(r.patches.Load()), r.metric(t, "ferrum_controller_builds_total")}
		if now != last {
			last, same = now, 0
		}
		if same++; same < 25 { // looks, one in 20 ms
			return fmt.Errorf("%v writes and %v builds, and counting", now[0], now[1])
		}
		return nil
	})
}

func routeIn(t *testing.T, p plan.Plan, ns, name string) *plan.Route {
	t.Helper()
	for _, r := range p.Routes {
		if r.Namespace == ns && r.Name == name {
			return r
		}
	}
	t.Fatalf("no route %s/%s in the plan", ns, name)
	return nil
}

func TestRunRefusesOptionsThatCannotWork(t *testing.T) {
	cfg := kubetest.Shared(t).Config()
	for what, o := range map[string]controllers.Options{
		"no applier":               {},
		"a deadline that is late":  {Applier: &recorder{}, Lease: controllers.LeaseTimes{Duration: time.Second, RenewDeadline: 2 * time.Second}},
		"a fraction of a second":   {Applier: &recorder{}, Lease: controllers.LeaseTimes{Duration: 10500 * time.Millisecond}},
		"retries without a chance": {Applier: &recorder{}, Lease: controllers.LeaseTimes{RetryPeriod: 9 * time.Second}},
	} {
		field := "Options.Lease"
		if o.Applier == nil {
			field = "Options.Applier"
		}
		if err := controllers.Run(t.Context(), cfg, o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v, want one that names %s", what, err, field)
		}
	}
}
