package controllers

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// fakePeers are the admin ports of replicas, each of which serves one generation
// of the test route.
type fakePeers struct {
	mu     sync.Mutex
	serves map[netip.Addr]int64 // < 0: it takes the question and never answers
	old    map[netip.Addr]bool  // it has no such page
	asked  []time.Time
	times  map[netip.Addr][]time.Time // the same, by whom
	most   int                        // at the same time
	now    int
}

func (f *fakePeers) Served(ctx context.Context, r netip.Addr, uids []string) ([]int64, error) {
	f.mu.Lock()
	f.asked = append(f.asked, time.Now())
	f.times[r] = append(f.times[r], time.Now())
	f.now++
	f.most = max(f.most, f.now)
	generation, ok := f.serves[r]
	old := f.old[r]
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now--
	}()
	switch {
	case old:
		return nil, errMute
	case !ok:
		return nil, errors.New("connection refused")
	case generation < 0:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_ = wait(ctx, 5*time.Millisecond)
	answer := make([]int64, len(uids))
	for i := range answer {
		answer[i] = generation
	}
	return answer, nil
}

func (f *fakePeers) set(r replica, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serves[r.addr] = generation
}

func (f *fakePeers) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// pollBed is a status writer with a poller, three replicas and the test route,
// which this replica serves.
type pollBed struct {
	*statusWriter
	api      *fakeAPI
	peers    *fakePeers
	replicas []replica
}

// withPoller runs a test in a bubble. All replicas serve generation 3, which is
// that of the route.
func withPoller(t *testing.T, test func(t *testing.T, b *pollBed)) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		api := &fakeAPI{cached: testRoute(), stored: testRoute(), start: time.Now()}
		w := newStatusWriter(api, api, logr.Discard(), m, nil)
		w.census = &census{}
		b := &pollBed{w, api, &fakePeers{serves: make(map[netip.Addr]int64), old: make(map[netip.Addr]bool), times: make(map[netip.Addr][]time.Time)}, testReplicas(3)}
		for _, r := range b.replicas {
			b.peers.set(r, 3)
		}
		p := &poller{writer: w, census: w.census, peers: b.peers, metrics: m, log: logr.Discard()}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = w.run(ctx) })
		running.Go(func() { _ = p.run(ctx) })
		defer running.Wait()
		defer stop()
		test(t, b)
	})
}

// build is what a reconcile makes of the route as it is in the cache.
func (b *pollBed) build() {
	b.api.sync()
	b.api.mu.Lock()
	o := b.api.cached
	b.api.mu.Unlock()
	v := verdictOn("fine")
	for key := range v {
		local := verdict{version: version{o.UID, o.Generation}, inForce: true}
		v[key] = local.with(accepted("fine")).with((*census)(nil).judge(local.version, o, time.Now()).condition)
	}
	b.census.meet(b.replicas, true, time.Now())
	b.publish(v)
}

// programmed returns the condition as it was written.
func (b *pollBed) programmed() metav1.Condition {
	if c := meta.FindStatusCondition(b.api.conditions(), v1alpha1.ConditionProgrammed); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func (b *pollBed) counts() v1alpha1.ReplicaCounts {
	b.api.mu.Lock()
	defer b.api.mu.Unlock()
	if c := b.api.stored.Status.Replicas; c != nil {
		return *c
	}
	return v1alpha1.ReplicaCounts{}
}

// after lets time pass in which the cache follows.
func (b *pollBed) after(t *testing.T, d time.Duration) {
	_ = wait(t.Context(), d)
	synctest.Wait()
	b.api.sync()
}

func TestProgrammedIsWrittenWithinASecondOfTheLastReplicaServingIt(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, 100*time.Millisecond)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 3, Total: 3}) {
			t.Fatalf("at first: %+v, %+v", c, b.counts())
		}
		if n := b.api.writes(); n != 1 {
			t.Errorf("%d writes for one answer", n)
		}

		b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation = 4 })
		b.build()
		b.peers.set(b.replicas[0], 4)
		b.peers.set(b.replicas[2], 4)
		for range 50 { // one replica is cut off for a while
			b.after(t, time.Second)
			if c := b.programmed(); c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonPending || c.ObservedGeneration != 4 ||
				!strings.Contains(c.Message, "ferrum-b (10.0.0.2) serves generation 3") || strings.Contains(c.Message, "ferrum-a") {
				t.Fatalf("one replica is behind: %+v", c)
			}
		}
		if n := b.api.writes(); n != 2 || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 2, Total: 3}) {
			t.Errorf("%d writes, %+v", n, b.counts())
		}
		if n := testutil.ToFloat64(b.metrics.replicasBehind); n != 1 {
			t.Errorf("%v replicas are behind", n)
		}
		b.peers.set(b.replicas[1], 4)
		b.after(t, time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || c.ObservedGeneration != 4 || b.counts().Programmed != 3 {
			t.Fatalf("a second after the last one: %+v, %+v", c, b.counts())
		}
		if n := testutil.ToFloat64(b.metrics.replicasBehind); n != 0 {
			t.Errorf("%v replicas are behind", n)
		}
		var h dto.Metric
		if err := b.metrics.programmed.Write(&h); err != nil {
			t.Fatal(err)
		}
		// One edit, which all served after 51 s.
		if n, sum := h.GetHistogram().GetSampleCount(), h.GetHistogram().GetSampleSum(); n != 1 || sum < 50 || sum > 52 {
			t.Errorf("%d edits took %v s", n, sum)
		}
	})
}

func TestThereIsOneRoundASecondAtMostAndNoneWhenNothingChanged(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Hour)
		if n := b.peers.questions(); n != 3 {
			t.Fatalf("%d questions to 3 replicas, which served all at the first", n)
		}
		// Builds of endpoints that move are news of nothing.
		for range 100 {
			b.build()
			b.nudge(keyOf(testRoute()))
			b.after(t, 100*time.Millisecond)
		}
		if n := b.peers.questions(); n != 3 {
			t.Fatalf("%d questions without a change", n-3)
		}
		// A hundred edits, ten a second: a round a second.
		for range 100 {
			b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation++ })
			for _, r := range b.replicas {
				b.peers.set(r, b.api.stored.Generation)
			}
			b.build()
			b.after(t, 100*time.Millisecond)
		}
		b.after(t, time.Hour)
		if n := b.peers.questions() - 3; n < 3*9 || n > 3*12 {
			t.Errorf("%d questions to 3 replicas in 10 s of edits", n)
		}
		for i, at := range b.peers.asked[3:] {
			if before := b.peers.asked[i]; at.Sub(before) > 0 && at.Sub(before) < pollInterval {
				t.Fatalf("rounds %s apart", at.Sub(before))
			}
		}
		if c := b.programmed(); c.Status != metav1.ConditionTrue || c.ObservedGeneration != 103 {
			t.Errorf("in the end: %+v", c)
		}
	})
}

func TestAReplicaThatHangsIsNamedAndHoldsUpOnlyWhatIsNew(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		// One that is new hangs: what is True stays.
		hanging := replica{addr: netip.MustParseAddr("2001:db8::4"), pod: "ferrum-d", uid: "d"}
		b.replicas = append(b.replicas, hanging)
		b.peers.set(hanging, -1)
		b.build()
		writes := b.api.writes()
		b.after(t, settleTime-time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.api.writes() != writes {
			t.Fatalf("a replica hangs, and %d writes: %+v", b.api.writes()-writes, c)
		}
		b.after(t, time.Minute)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 3, Total: 4}) {
			t.Fatalf("after the replicas have settled: %+v, %+v", c, b.counts())
		}
		b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation = 4 })
		for _, r := range b.replicas[:3] {
			b.peers.set(r, 4)
		}
		b.build()
		b.after(t, pollInterval+pollTimeout)
		if c := b.programmed(); c.Status != metav1.ConditionFalse || c.Message != "no answer from ferrum-d (2001:db8::4)" {
			t.Fatalf("an edit while it hangs: %+v", c)
		}
		// It goes, and one that is behind comes; then that one goes, too.
		behind := replica{addr: netip.MustParseAddr("10.0.0.9"), pod: "ferrum-e"}
		b.peers.set(behind, 2)
		b.replicas = append(b.replicas[:3:3], behind)
		b.build()
		b.after(t, pollInterval+pollTimeout)
		if c := b.programmed(); c.Status != metav1.ConditionFalse || c.Message != "behind: ferrum-e (10.0.0.9) serves generation 2" {
			t.Fatalf("another one is behind: %+v", c)
		}
		b.replicas = b.replicas[:3]
		b.build()
		b.after(t, pollInterval+pollTimeout)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 3, Total: 3}) {
			t.Fatalf("after it has gone: %+v, %+v", c, b.counts())
		}
	})
}

// pauses are the times between the questions to a replica since one.
func (f *fakePeers) pauses(r replica, since time.Time) (all []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, at := range f.times[r.addr] {
		if i > 0 && !f.times[r.addr][i-1].Before(since) {
			all = append(all, at.Sub(f.times[r.addr][i-1]).Round(100*time.Millisecond))
		}
	}
	return all
}

func TestAReplicaThatDoesNotAnswerIsAskedEverMoreRarelyAndTheOthersAreNot(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		edit := func(generation int64, serve ...replica) {
			b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation = generation })
			for _, r := range serve {
				b.peers.set(r, generation)
			}
			b.build()
		}
		hanging, slow, other := b.replicas[0], b.replicas[1], b.replicas[2]
		b.peers.set(hanging, -1)
		began := time.Now()
		edit(4, other) // slow is behind all the time
		b.after(t, 50*time.Second)
		// A second each is the wait for its answer.
		if got, want := b.peers.pauses(hanging, began), []time.Duration{2e9, 3e9, 5e9, 9e9, 11e9, 11e9}; !slices.Equal(got, want) {
			t.Errorf("the one that hangs was asked after %v, want %v", got, want)
		}
		for _, d := range b.peers.pauses(slow, began) {
			if d > pollInterval+200*time.Millisecond {
				t.Errorf("the one that is behind was asked after %v", d)
			}
		}
		// What is new is not held up: that one is silent, as it was, says the status.
		edit(5, other, slow)
		b.after(t, 200*time.Millisecond+pollInterval)
		if c := b.programmed(); c.ObservedGeneration != 5 || c.Message != "no answer from ferrum-a (10.0.0.1)" || b.counts().Programmed != 2 {
			t.Errorf("an edit while one hangs: %+v, %+v", c, b.counts())
		}
		b.peers.set(hanging, 5)
		b.after(t, maxSilence+pollTimeout)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || c.ObservedGeneration != 5 {
			t.Fatalf("after it has answered: %+v", c)
		}
		// It answers: it is asked at once again, and within a second.
		began = time.Now()
		edit(6, other, slow)
		b.after(t, 5500*time.Millisecond)
		if got, want := b.peers.pauses(hanging, began), []time.Duration{1e9, 1e9, 1e9, 1e9, 1e9}; !slices.Equal(got, want) {
			t.Errorf("as one that is behind it was asked after %v, want %v", got, want)
		}
	})
}

func TestAReplicaThatWasSilentAndIsReadyAgainIsAskedAtOnce(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		all := b.replicas
		b.peers.set(all[1], -1)
		b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation = 4 })
		b.peers.set(all[0], 4)
		b.peers.set(all[2], 4)
		b.build()
		b.after(t, 32*time.Second)
		if at := b.peers.times[all[1].addr]; time.Since(at[len(at)-1]) > maxSilence/2 {
			t.Fatalf("it was asked %s ago, so it is due anyway", time.Since(at[len(at)-1]))
		}
		b.replicas = []replica{all[0], all[2]}
		b.build()
		b.after(t, time.Second)
		b.replicas = all
		b.peers.set(all[1], 4)
		ready := time.Now()
		b.build()
		b.after(t, pollInterval)
		if at := b.peers.times[all[1].addr]; at[len(at)-1].Before(ready) {
			t.Errorf("it was not asked within a second, but %s before", ready.Sub(at[len(at)-1]))
		}
	})
}

func TestARouteThatIsMadeAnewIsNotServedBecauseTheOneBeforeWas(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		// Between two rounds: deleted, and created with the same name.
		b.api.edit(func(o *v1alpha1.ProxyRoute) {
			o.UID, o.Generation, o.Status = "2", 1, v1alpha1.ProxyRouteStatus{}
		})
		for _, r := range b.replicas[:2] {
			b.peers.set(r, 1)
		}
		b.peers.set(b.replicas[2], 0) // has the one before, and so nothing of this one
		b.build()
		b.after(t, pollInterval)
		if c := b.programmed(); c.Status != metav1.ConditionFalse || c.Message != "behind: ferrum-c (10.0.0.3) does not serve the route" {
			t.Fatalf("while one has the route of before: %+v", c)
		}
		b.peers.set(b.replicas[2], 1)
		b.after(t, pollInterval+100*time.Millisecond)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.counts().Programmed != 3 {
			t.Fatalf("after it has the new one: %+v", c)
		}
	})
}

func TestTheNumberOfReplicasFollowsWhenTheyHaveSettled(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		writes := b.api.writes()
		all := b.replicas
		for range 20 { // a rollout
			b.replicas = all[:2]
			b.build()
			b.after(t, 10*time.Second)
			b.replicas = all
			b.build()
			b.after(t, 10*time.Second)
		}
		b.replicas = all[:2]
		b.build()
		b.after(t, settleTime-time.Second)
		if n := b.api.writes() - writes; n != 0 || b.counts().Total != 3 {
			t.Fatalf("%d writes during a rollout", n)
		}
		b.after(t, 2*time.Second)
		if n := b.api.writes() - writes; n != 1 || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 2, Total: 2}) {
			t.Errorf("%d writes after it, %+v", n, b.counts())
		}
	})
}

func TestAReplicaThatBecomesReadyWithAnOlderTableTurnsItFalse(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.lead(t.Context())
		b.build()
		b.after(t, time.Minute)
		// It restarts, without an API server, with what it had.
		all := b.replicas
		b.replicas = all[:2]
		b.build()
		b.after(t, time.Second)
		b.peers.set(all[2], 1)
		b.replicas = all
		b.build()
		b.after(t, 2*time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "ferrum-c (10.0.0.3) serves generation 1") {
			t.Fatalf("%+v", c)
		}
	})
}

func TestAnUpgradeFromAVersionThatCannotSayWhatItServesGoesThrough(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.peers.old[b.replicas[0].addr], b.peers.old[b.replicas[1].addr] = true, true
		b.lead(t.Context())
		b.build()
		b.after(t, time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "older version") || b.counts() != (v1alpha1.ReplicaCounts{Programmed: 1, Total: 3}) {
			t.Fatalf("%+v, %+v", c, b.counts())
		}
		b.after(t, time.Hour)
		if n := b.peers.questions(); n != 3 {
			t.Errorf("%d questions, want one to each", n)
		}
	})
}

func TestReplicasThatCannotSayOrDoNotAnswerAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		x := &census{}
		x.meet(testReplicas(2), true, time.Now())
		p := &poller{census: x, log: funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})}
		dead := errors.New("connection refused")
		for range 5 {
			x.said(testReplicas(2)[0], 3, 0, errMute)
			x.said(testReplicas(2)[1], 3, 0, dead)
			p.tell("ferrum-a (10.0.0.1)", dead)
			p.tell("", nil) // a round in which neither is asked
		}
		if len(lines) != 2 || !strings.Contains(lines[0], "older version") || !strings.Contains(lines[1], "ferrum-b (10.0.0.2)") {
			t.Fatalf("logged %q", lines)
		}
		x.said(testReplicas(2)[1], 3, 3, nil)
		p.tell("", nil)
		x.said(testReplicas(2)[1], 4, 0, dead)
		p.tell("", dead)
		if len(lines) != 3 {
			t.Errorf("logged %q; want it said again of one that had answered meanwhile", lines)
		}
	})
}

func TestANewLeaderKeepsWhatIsTrueAndAsksEverybodyOnce(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.api.edit(func(o *v1alpha1.ProxyRoute) {
			o.Status.ObservedGeneration = 3
			o.Status.Replicas = &v1alpha1.ReplicaCounts{Programmed: 3, Total: 3}
			o.Status.Conditions, _ = merge(nil, verdict{version: version{"1", 3}}.with(accepted("fine")).with(
				(*census)(nil).judge(version{"1", 3}, o, time.Now()).condition))
		})
		b.build()
		b.after(t, time.Hour)
		if n := b.peers.questions(); n != 0 {
			t.Fatalf("%d questions by a replica that writes no statuses", n)
		}
		b.peers.set(b.replicas[1], -1)
		b.build()
		term, lose := context.WithCancel(t.Context())
		b.lead(term)
		b.after(t, 3*time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionTrue {
			t.Fatalf("the new leader wrote %+v", c)
		}
		b.peers.set(b.replicas[1], 3)
		b.after(t, maxSilence)
		asked := b.peers.questions()
		b.after(t, time.Hour)
		if n := b.peers.questions(); n != asked {
			t.Errorf("%d questions after all was known", n-asked)
		}
		lose()
		b.follow()
		b.api.edit(func(o *v1alpha1.ProxyRoute) { o.Generation = 4 })
		b.build()
		b.after(t, time.Hour)
		if n := b.peers.questions(); n != asked {
			t.Errorf("%d questions after the Lease was lost", n-asked)
		}
		if n := testutil.ToFloat64(b.metrics.replicasBehind); n != 0 {
			t.Errorf("%v replicas are behind, says one that does not write statuses", n)
		}
	})
}

func TestManyReplicasAreAskedSomeAtATime(t *testing.T) {
	withPoller(t, func(t *testing.T, b *pollBed) {
		b.replicas = nil
		for i := range 100 {
			r := replica{addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}
			b.replicas = append(b.replicas, r)
			b.peers.set(r, 3)
		}
		b.lead(t.Context())
		b.build()
		b.after(t, time.Second)
		if c := b.programmed(); c.Status != metav1.ConditionTrue || b.counts().Programmed != 100 || b.peers.most != pollWorkers {
			t.Errorf("%+v, %+v, %d at a time", c, b.counts(), b.peers.most)
		}
	})
}
