package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// fakeHealth knows the pools that it was given and no others.
type fakeHealth struct {
	mu    sync.Mutex
	pools map[plan.PoolKey]plan.PoolHealth
}

func (f *fakeHealth) PoolHealth(k plan.PoolKey) (plan.PoolHealth, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.pools[k]
	return h, ok
}

func (f *fakeHealth) set(k plan.PoolKey, h plan.PoolHealth) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pools == nil {
		f.pools = make(map[plan.PoolKey]plan.PoolHealth)
	}
	f.pools[k] = h
}

func poolOf(service string) plan.PoolKey {
	return plan.PoolKey{Namespace: "shop", Service: service, Port: 80}
}

func legsTo(services ...string) (legs []plan.Leg) {
	for _, s := range services {
		legs = append(legs, plan.Leg{Weight: 1, Pool: poolOf(s)})
	}
	return legs
}

func TestBackendsHealthySaysWhatClientsGet(t *testing.T) {
	health := &fakeHealth{}
	health.set(poolOf("good"), plan.PoolHealth{Ready: 3, Draining: 1})
	health.set(poolOf("hurt"), plan.PoolHealth{Ready: 1, Ejected: 1, Unhealthy: 1})
	health.set(poolOf("empty"), plan.PoolHealth{})
	health.set(poolOf("down"), plan.PoolHealth{Ejected: 1, Unhealthy: 2})
	health.set(poolOf("leaving"), plan.PoolHealth{Draining: 2})
	health.set(poolOf("panic"), plan.PoolHealth{Ready: 1, Ejected: 2, Panic: true})
	for _, c := range []struct {
		name      string
		rules     []plan.Rule
		condition string // status/reason
		message   string // is in it
		counts    []string
	}{
		{"all good", []plan.Rule{{Name: "a", Legs: legsTo("good", "hurt")}}, "True/BackendsHealthy", "", []string{"a 4 1 1 1"}},
		{"one pool twice counts once", []plan.Rule{{Name: "a", Legs: legsTo("good", "good")}}, "True/BackendsHealthy", "", []string{"a 3 1 0 0"}},
		{"terminating ones serve when nothing else does", []plan.Rule{{Name: "a", Legs: legsTo("leaving")}}, "True/BackendsHealthy", "", []string{"a 0 2 0 0"}},
		{"a share that is rejected", []plan.Rule{{Name: "a", Legs: legsTo("good", "empty")}},
			"False/NoUsableEndpoints", `rule "a": Service shop/empty port 80`, []string{"a 3 1 0 0"}},
		{"a share that the others take", []plan.Rule{{Name: "a", Legs: legsTo("good", "empty"), Rebalance: true}},
			"True/BackendsHealthy", "", []string{"a 3 1 0 0"}},
		{"nobody to take the share", []plan.Rule{{Name: "a", Legs: legsTo("down", "empty"), Rebalance: true}},
			"False/NoUsableEndpoints", "Service shop/down port 80; ", []string{"a 0 0 1 2"}},
		{"ready ones that are all ejected", []plan.Rule{{Name: "a", Legs: legsTo("down")}},
			"False/NoUsableEndpoints", "shop/down", []string{"a 0 0 1 2"}},
		{"panic", []plan.Rule{{Name: "a", Legs: legsTo("good")}, {Name: "b", Legs: legsTo("panic")}},
			"False/Panic", `rule "b": Service shop/panic port 80`, []string{"a 3 1 0 0", "b 1 0 2 0"}},
		{"nothing is worse than panic", []plan.Rule{{Name: "a", Legs: legsTo("panic", "empty")}},
			"False/NoUsableEndpoints", "shop/empty", []string{"a 1 0 2 0"}},
		{"not known", []plan.Rule{{Name: "a", Legs: legsTo("new", "empty")}}, "Unknown/Unknown", "shop/new", []string{"a 0 0 0 0"}},
		{"no weight, no say", []plan.Rule{{Name: "a", Legs: append(legsTo("good"), plan.Leg{Pool: poolOf("empty")})}},
			"True/BackendsHealthy", "", []string{"a 3 1 0 0"}},
		{"a reference that does not resolve has its own condition",
			[]plan.Rule{{Name: "a", Legs: append(legsTo("good"), plan.Leg{Weight: 1, Invalid: "no such Service"})}, {Name: "b", Invalid: "bad"}},
			"True/BackendsHealthy", "", []string{"a 3 1 0 0"}},
		{"nothing resolves", []plan.Rule{{Name: "a", Legs: []plan.Leg{{Weight: 1, Invalid: "no such Service"}}}}, "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := judgeHealth(&plan.Route{Namespace: "shop", Name: "web", Rules: c.rules}, health)
			var got string
			if h.condition.Type != "" {
				got = string(h.condition.Status) + "/" + h.condition.Reason
			}
			if got != c.condition || !strings.Contains(h.condition.Message, c.message) {
				t.Errorf("condition %q %q, want %q with %q", got, h.condition.Message, c.condition, c.message)
			}
			var counts []string
			for _, r := range h.rules {
				counts = append(counts, fmt.Sprint(r.Name, " ", r.Endpoints.Ready, " ", r.Endpoints.Draining, " ", r.Endpoints.Ejected, " ", r.Endpoints.Unhealthy))
			}
			if diff := cmp.Diff(c.counts, counts); diff != "" {
				t.Errorf("ready, draining, ejected, unhealthy (-want +got):\n%s", diff)
			}
		})
	}
	if h := judgeHealth(nil, health); !h.equal(routeHealth{}) {
		t.Errorf("a route that is not served has health %v", h)
	}
}

// fakeEvents keeps what is recorded.
type fakeEvents struct {
	mu  sync.Mutex
	all []string
}

func (f *fakeEvents) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if action == "" {
		panic("the API server takes no Event without an action")
	}
	f.all = append(f.all, fmt.Sprintf("%s %s %s: %s", regarding.(client.Object).GetName(), kind, reason, fmt.Sprintf(note, args...)))
}

func (f *fakeEvents) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.all
	f.all = nil
	return all
}

// services is a cache of the Services of namespace shop but "gone".
type services struct{ client.Reader }

func (services) Get(_ context.Context, k client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	if k.Name == "gone" {
		return apierrors.NewNotFound(corev1.Resource("services"), k.Name)
	}
	out.SetNamespace(k.Namespace)
	out.SetName(k.Name)
	return nil
}

// servedRoute says Accepted of the test route, and that it goes to Services.
func servedRoute(names ...string) verdictSet {
	o := testRoute()
	return verdictSet{keyOf(o): {version: version{o.UID, o.Generation}, conditions: []translate.Condition{accepted("")},
		route: &plan.Route{Namespace: "shop", Name: "web", Rules: []plan.Rule{{Name: "a", Legs: legsTo(names...)}}}}}
}

// healthBed is a running status writer and health watch in a bubble.
type healthBed struct {
	api         *fakeAPI
	health      *fakeHealth
	writer      *statusWriter
	transitions *Transitions
	events      *fakeEvents
}

func withHealth(t *testing.T, test func(t *testing.T, b *healthBed)) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		b := &healthBed{
			api:    &fakeAPI{cached: testRoute(), stored: testRoute(), start: time.Now()},
			health: &fakeHealth{}, transitions: NewTransitions(), events: &fakeEvents{},
		}
		b.writer = newStatusWriter(b.api, b.api, logr.Discard(), m, b.health)
		watch := &healthWatch{writer: b.writer, health: b.health, transitions: b.transitions, reader: services{}, recorder: b.events, log: logr.Discard()}
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = b.writer.run(ctx) })
		done.Go(func() { _ = watch.run(ctx) })
		defer func() { stop(); done.Wait() }()
		test(t, b)
	})
}

// change sets the health of a pool and tells of it, as the data plane does.
func (b *healthBed) change(service string, h plan.PoolHealth, from, to string) {
	b.health.set(poolOf(service), h)
	b.transitions.OnTransition(plan.Transition{
		Pool: poolOf(service), Endpoint: netip.MustParseAddrPort("10.0.0.1:8080"), From: from, To: to, Why: "5 failures in a row",
	})
}

func (b *healthBed) status() (condition string, rules []v1alpha1.RuleStatus) {
	b.api.mu.Lock()
	defer b.api.mu.Unlock()
	if c := meta.FindStatusCondition(b.api.stored.Status.Conditions, v1alpha1.ConditionBackendsHealthy); c != nil {
		condition = string(c.Status) + "/" + c.Reason
	}
	return condition, b.api.stored.Status.Rules
}

// pass lets time go by, with a cache that follows the API server.
func (b *healthBed) pass(t *testing.T, d time.Duration) {
	for range d / (100 * time.Millisecond) {
		_ = wait(t.Context(), 100*time.Millisecond)
		before, _ := b.api.versions()
		b.api.sync()
		if _, after := b.api.versions(); before != after {
			b.writer.nudge(keyOf(testRoute())) // the event of the write
		}
	}
}

func (f *fakeAPI) versions() (cached, stored string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cached.ResourceVersion, f.stored.ResourceVersion
}

func TestHealthIsInTheFirstStatusAndFollowsTransitions(t *testing.T) {
	withHealth(t, func(t *testing.T, b *healthBed) {
		b.writer.lead(t.Context())
		b.writer.publish(servedRoute("web"))
		b.pass(t, time.Second)
		if c, _ := b.status(); c != "Unknown/Unknown" {
			t.Fatalf("BackendsHealthy=%s before the data plane knows the pool", c)
		}
		b.change("web", plan.PoolHealth{Ready: 2}, "", "serving")
		b.pass(t, 15*time.Second)
		if c, rules := b.status(); c != "True/BackendsHealthy" || len(rules) != 1 || rules[0].Endpoints.Ready != 2 {
			t.Fatalf("BackendsHealthy=%s, rules %v", c, rules)
		}
		b.change("web", plan.PoolHealth{Ejected: 2}, "serving", "ejected")
		b.pass(t, 15*time.Second)
		if c, rules := b.status(); c != "False/NoUsableEndpoints" || rules[0].Endpoints.Ejected != 2 {
			t.Fatalf("BackendsHealthy=%s, rules %v", c, rules)
		}
		// The route is refused: of what is not served there is nothing to say.
		o := testRoute()
		b.writer.publish(verdictSet{keyOf(o): {version: version{o.UID, o.Generation}, conditions: []translate.Condition{accepted("no")}}})
		b.pass(t, 15*time.Second)
		if c, rules := b.status(); c != "" || rules != nil {
			t.Errorf("BackendsHealthy=%s, rules %v of a route that is not served", c, rules)
		}
	})
}

// Endpoints that come and go every 100 ms for a minute must not write 600
// statuses.
func TestHealthThatKeepsChangingIsWrittenOnceInTenSeconds(t *testing.T) {
	withHealth(t, func(t *testing.T, b *healthBed) {
		b.health.set(poolOf("web"), plan.PoolHealth{Ready: 2})
		b.writer.lead(t.Context())
		b.writer.publish(servedRoute("web"))
		for i := range 600 {
			b.change("web", plan.PoolHealth{Ready: 1000 + i}, "serving", "ejected")
			b.pass(t, 100*time.Millisecond)
		}
		if n := b.api.writes(); n < 4 || n > 7 {
			t.Errorf("%d writes in a minute at %v", n, b.api.patches)
		}
		b.change("web", plan.PoolHealth{Ready: 7}, "ejected", "serving")
		b.pass(t, 12*time.Second)
		if _, rules := b.status(); rules[0].Endpoints.Ready != 7 {
			t.Errorf("the last change was lost: %v", rules)
		}
		n := b.api.writes()
		b.change("web", plan.PoolHealth{Ready: 7}, "probing", "serving") // nothing differs
		b.pass(t, time.Minute)
		if got := b.api.writes(); got != n {
			t.Errorf("%d writes of nothing new", got-n)
		}
	})
}

func TestAVerdictDoesNotWaitForThePauseOfHealth(t *testing.T) {
	withHealth(t, func(t *testing.T, b *healthBed) {
		b.health.set(poolOf("web"), plan.PoolHealth{Ready: 2})
		b.writer.lead(t.Context())
		b.writer.publish(servedRoute("web"))
		b.pass(t, time.Second)
		b.change("web", plan.PoolHealth{Ready: 1}, "serving", "ejected")
		b.pass(t, 2*time.Second)
		set := servedRoute("web")
		for k, v := range set {
			v.conditions = []translate.Condition{accepted("edited")}
			set[k] = v
		}
		b.writer.publish(set)
		b.pass(t, 200*time.Millisecond)
		if c := b.api.conditions(); c[0].Message != "edited" || b.api.writes() != 2 {
			t.Errorf("%d writes, conditions %v", b.api.writes(), c)
		}
		if _, rules := b.status(); rules[0].Endpoints.Ready != 1 {
			t.Errorf("the write has not taken the health with it: %v", rules)
		}
	})
}

func TestEventsAreOfTheWriterJoinedAndOnTheService(t *testing.T) {
	withHealth(t, func(t *testing.T, b *healthBed) {
		b.writer.publish(servedRoute("web"))
		b.change("web", plan.PoolHealth{Ready: 1, Ejected: 1}, "serving", "ejected")
		b.pass(t, 2*time.Second)
		if all := b.events.take(); all != nil {
			t.Fatalf("events of a replica that does not write: %q", all)
		}
		b.writer.lead(t.Context())
		b.pass(t, 2*time.Second)
		if all := b.events.take(); all != nil {
			t.Fatalf("events of what was known before: %q", all)
		}
		for i := range 8 {
			b.transitions.OnTransition(plan.Transition{Pool: poolOf("web"), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), From: "serving", To: "ejected"})
		}
		for _, service := range []string{"web", "web", "gone"} {
			b.change(service, plan.PoolHealth{Ready: 1, Ejected: 2, Panic: true}, "probing", "serving")
		}
		b.change("web", plan.PoolHealth{Ready: 1, Ejected: 2, Panic: true}, "", "serving")
		b.change("web", plan.PoolHealth{Ready: 1, Ejected: 2, Panic: true}, "ejected", "probing")
		b.change("api", plan.PoolHealth{Unhealthy: 1}, "serving", "unhealthy")
		b.pass(t, 5*time.Second)
		want := []string{
			"api Warning Unhealthy: endpoints fail their health checks, so they get no requests; look at what the check asks for: 10.0.0.1:8080 (5 failures in a row)",
			"web Warning Ejected: endpoints failed requests, so they get none for a time; look at their logs and load: 10.0.0.0:80; 10.0.0.1:80; 10.0.0.2:80; 10.0.0.3:80; 10.0.0.4:80; and 3 more",
			"web Warning Panic: too few endpoints are healthy, so requests go to all, also to broken ones; repair endpoints or add more: port 80",
			"web Normal Recovered: endpoints take requests again: 10.0.0.1:8080 (5 failures in a row)",
		}
		if diff := cmp.Diff(want, b.events.take()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		b.change("web", plan.PoolHealth{Ready: 1, Ejected: 2, Panic: true}, "ejected", "probing")
		b.pass(t, 5*time.Second)
		if all := b.events.take(); all != nil {
			t.Errorf("panic that goes on is told again: %q", all)
		}
	})
}

func TestTransitionsThatNobodyLooksAtDoNotPileUp(t *testing.T) {
	ts := NewTransitions()
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for range maxTransitions {
				ts.OnTransition(plan.Transition{To: "ejected"})
			}
		})
	}
	senders.Wait()
	if n := len(ts.take()); n != maxTransitions {
		t.Errorf("%d wait, want %d", n, maxTransitions)
	}
	if n := len(ts.take()); n != 0 {
		t.Errorf("%d wait after they were taken", n)
	}
}

func TestNotesOfEventsAreShortEnoughForTheAPI(t *testing.T) {
	events := &fakeEvents{}
	h := &healthWatch{reader: services{}, recorder: events, log: logr.Discard()}
	n := make(notes)
	n.transition(plan.Transition{Pool: poolOf("web"), To: "ejected", Why: strings.Repeat("é", 2000)})
	for _, k := range n.sorted() {
		h.tell(t.Context(), k, n[k])
	}
	all := events.take()
	if len(all) != 1 || len(strings.TrimPrefix(all[0], "web Warning Ejected: ")) > 1024 || strings.ContainsRune(all[0], '\uFFFD') {
		t.Errorf("events %q", all)
	}
}

func TestSameButLooksAtEveryOtherCondition(t *testing.T) {
	a := []metav1.Condition{{Type: "A"}, {Type: "B", Reason: "1"}}
	b := []metav1.Condition{{Type: "B", Reason: "2"}, {Type: "A"}}
	if !sameBut("B", a, b) || sameBut("A", a, b) || !slices.Equal(a, []metav1.Condition{{Type: "A"}, {Type: "B", Reason: "1"}}) {
		t.Error("wrong")
	}
}
