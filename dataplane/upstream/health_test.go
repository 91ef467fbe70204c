package upstream_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

const s = time.Second

// passive is what the API has on by default.
func passive(p *plan.Policy) {
	p.Passive = plan.PassiveCheck{
		ConsecutiveFailures: 5, BaseEjection: 30 * time.Second, MaxEjection: 5 * time.Minute, MaxEjectedPercent: 50,
	}
	p.Passive.Statuses.Add(502, 504)
}

// ward is a pool in a bubble and all that it has told.
type ward struct {
	*testing.T
	*upstream.Pool
	r *upstream.Registry

	mu   sync.Mutex
	told []string // "endpoint number: from>to"
	why  []string
}

// inWard runs a test of a pool with n endpoints in a bubble.
func inWard(t *testing.T, n int, k plan.PoolKey, f func(w *ward)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &ward{T: t, r: upstream.NewRegistry()}
		w.r.OnTransition = func(c plan.Transition) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, fmt.Sprintf("%d: %s>%s", c.Endpoint.Addr().As4()[3], c.From, c.To))
			w.why = append(w.why, c.Why)
			if !c.Time.Equal(time.Now()) {
				t.Errorf("told at %s of what happened at %s", time.Now(), c.Time)
			}
		}
		w.r.Prepare(pools(k, n))
		w.Pool = w.r.Pool(k)
		f(w)
	})
}

// wantTold checks what was told since it was called last.
func (w *ward) wantTold(want ...string) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		w.Fatalf("told of %v, want %v", w.told, want)
	}
	w.told = nil
}

func (w *ward) view(i int) upstream.View { return w.View(w.Endpoints()[i], time.Now()) }

func (w *ward) wantState(i int, want string) {
	w.Helper()
	if v := w.view(i); v.State != want {
		w.Errorf("endpoint %d is %s, want %s", i, v.State, want)
	}
}

// report ends a request at one endpoint.
func report(p *upstream.Pool, a netip.AddrPort, v upstream.Verdict) {
	turn := p.TakeAt(a)
	turn.Release(time.Now(), v, "connect_refused")
}

func failTimes(p *upstream.Pool, a netip.AddrPort, n int) {
	for range n {
		report(p, a, upstream.Failure)
	}
}

// trial is the next request, which must be the one that tries endpoint i.
func (w *ward) trial(i int) upstream.Turn {
	w.Helper()
	turn := take(w.Pool)
	if turn.Endpoint == nil || turn.Endpoint.Addr != addr(i) {
		w.Fatalf("the next request is not the trial of %d", i)
	}
	w.wantState(i, "probing")
	return turn
}

// wantOthers takes requests, none of which may go to endpoint i.
func (w *ward) wantOthers(i int) {
	w.Helper()
	for range 50 {
		turn := take(w.Pool)
		if turn.Endpoint == nil || turn.Endpoint.Addr == addr(i) {
			w.Fatalf("a request went to %v", turn.Endpoint)
		}
		done(&turn)
	}
}

func TestFailuresInARowEjectAndASuccessBetweenThemDoesNot(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 4)
		report(w.Pool, addr(0), upstream.Success)
		failTimes(w.Pool, addr(0), 4)
		report(w.Pool, addr(0), upstream.Inconclusive) // neither ends the row nor is part of it
		w.wantTold()
		failTimes(w.Pool, addr(0), 1)
		w.wantTold("0: serving>ejected")
		if want := "5 requests in a row failed, the last with connect_refused"; w.why[0] != want || w.view(0).Why != want {
			t.Errorf("why: %q, %q", w.why[0], w.view(0).Why)
		}
		w.wantOthers(0)
		if h := w.Health(); h != (plan.PoolHealth{Ready: 2, Ejected: 1}) {
			t.Errorf("%+v", h)
		}
		v := w.view(0)
		if d := v.Until.Sub(v.Since); d < 30*time.Second || d > 33*time.Second || !v.Since.Equal(time.Now()) {
			t.Errorf("it is out for %s since %s", d, v.Since)
		}
	})
}

func TestStatusesThatAreConfiguredCountAndOthersDoNot(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		answer := func(status, n int) {
			for range n {
				turn := w.TakeAt(addr(0))
				turn.Answered(time.Now(), time.Millisecond, status, 0)
				done(&turn)
			}
		}
		answer(503, 4)
		answer(500, 1)
		answer(502, 4)
		w.wantTold()
		// The body of a failure that is cut, too, is one failure.
		turn := w.TakeAt(addr(1))
		turn.Answered(time.Now(), 0, 502, 0)
		turn.Release(time.Now(), upstream.Failure, "response_cut")
		answer(504, 1)
		w.wantTold("0: serving>ejected")
		if w.why[0] != "5 requests in a row failed, the last with status 504" {
			t.Error(w.why[0])
		}
		failTimes(w.Pool, addr(1), 3)
		w.wantTold()
	})
}

func TestAShareOfFailuresInTheWindowEjects(t *testing.T) {
	k := keyWith(plan.LeastRequest, passive, func(p *plan.Policy) {
		p.Passive.ConsecutiveFailures = 0
		p.Passive.FailurePercent, p.Passive.FailureMinRequests, p.Passive.FailureWindow = 50, 20, 10*time.Second
	})
	inWard(t, 3, k, func(w *ward) {
		both := func(good, bad int) {
			for range good {
				report(w.Pool, addr(0), upstream.Success)
			}
			failTimes(w.Pool, addr(0), bad)
		}
		both(0, 19) // too few to say anything
		w.wantTold()
		time.Sleep(11 * time.Second) // they are forgotten
		both(30, 29)
		w.wantTold()
		time.Sleep(5 * time.Second)
		both(0, 1)
		w.wantTold("0: serving>ejected")
		if w.why[0] != "30 of 60 requests failed, the last with connect_refused" {
			t.Error(w.why[0])
		}
	})
}

func TestWhenItsTimeIsUpExactlyOneRequestTriesAnEndpoint(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		w.told = nil
		until := w.view(0).Until
		time.Sleep(time.Until(until) - time.Nanosecond)
		w.wantOthers(0)
		if w.Eligible(w.Endpoints()[0], time.Now()) {
			t.Error("eligible before its time")
		}
		time.Sleep(time.Nanosecond)
		if !w.Eligible(w.Endpoints()[0], time.Now()) {
			t.Error("not eligible when a trial is due")
		}
		var tried sync.Map
		var all sync.WaitGroup
		n := 0
		for range 200 {
			all.Go(func() {
				turn := take(w.Pool)
				if turn.Endpoint.Addr == addr(0) {
					_, twice := tried.LoadOrStore("trial", turn)
					if twice {
						t.Error("a second request went there")
					}
					return
				}
				done(&turn)
			})
		}
		all.Wait()
		// Those that found the pool busy went elsewhere; it is due still if all did.
		tried.Range(func(_, v any) bool { n++; return true })
		if n == 0 {
			w.trial(0)
		}
		w.wantTold("0: ejected>probing")
		w.wantOthers(0)
		w.wantState(0, "probing")
	})
}

func TestAGoodTrialEndsTheEjectionWithASlowStart(t *testing.T) {
	k := keyWith(plan.Random, passive, func(p *plan.Policy) {
		p.LoadBalancing.SlowStart, p.LoadBalancing.SlowStartMinPercent = 30*time.Second, 10
	})
	inWard(t, 2, k, func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		time.Sleep(33 * time.Second)
		turn := w.trial(0)
		// The head of the response decides: the body may take hours.
		turn.Answered(time.Now(), time.Millisecond, 200, 0)
		w.wantTold("0: serving>ejected", "0: ejected>probing", "0: probing>serving")
		if v := w.view(0); v.Share != 10 {
			t.Errorf("it returns with %d%%", v.Share)
		}
		got := shares(w.Pool, 10_000)[addr(0)]
		if got < 0.07 || got > 0.11 {
			t.Errorf("after its return it gets %.3f, want 0.1/1.1", got)
		}
		time.Sleep(15 * time.Second)
		if got := shares(w.Pool, 10_000)[addr(0)]; got < 0.31 || got > 0.36 {
			t.Errorf("halfway it gets %.3f, want a third", got)
		}
		// A cut of that body counts like any failure now.
		turn.Release(time.Now(), upstream.Failure, "response_cut")
		failTimes(w.Pool, addr(0), 4)
		w.wantTold("0: serving>ejected")
	})
}

func TestABadTrialEjectsForTwiceAsLongUpToTheMost(t *testing.T) {
	inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		for _, want := range []time.Duration{30 * s, 60 * s, 120 * s, 240 * s, 300 * s, 300 * s} {
			w.wantState(0, "ejected")
			d := time.Until(w.view(0).Until)
			if d < want || d > want*11/10 {
				t.Errorf("it is out for %s, want %s and up to a tenth more", d, want)
			}
			time.Sleep(d)
			turn := w.trial(0)
			turn.Answered(time.Now(), time.Millisecond, 503, 0)
			done(&turn)
		}
		if n := w.Tally().Ejections.Load(); n != 7 {
			t.Errorf("%d ejections counted", n)
		}
	})
}

func TestATrialThatSaysNothingLeavesItToAnotherRequest(t *testing.T) {
	inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		time.Sleep(33 * time.Second)
		turn := w.trial(0)
		turn.Release(time.Now(), upstream.Inconclusive, "client_gone")
		w.wantState(0, "ejected")
		w.wantOthers(0)
		time.Sleep(time.Second)
		turn = w.trial(0)
		turn.Release(time.Now(), upstream.Success, "ok")
		w.wantState(0, "serving")
	})
}

func TestAGoodSpellTakesTheDoublingsBack(t *testing.T) {
	for _, tc := range []struct {
		good, want time.Duration
	}{
		{0, 240 * s}, {119 * s, 240 * s}, {121 * s, 120 * s}, {241 * s, 60 * s}, {361 * s, 30 * s}, {24 * time.Hour, 30 * s},
	} {
		inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
			failTimes(w.Pool, addr(0), 5)
			for i := range 3 { // out for 30, 60 and 120 s
				time.Sleep(time.Until(w.view(0).Until))
				turn := w.trial(0)
				turn.Release(time.Now(), []upstream.Verdict{upstream.Failure, upstream.Failure, upstream.Success}[i], "reset")
			}
			time.Sleep(tc.good)
			failTimes(w.Pool, addr(0), 5)
			d := time.Until(w.view(0).Until)
			if d < tc.want || d > tc.want*11/10 {
				t.Errorf("after %s without failure it is out for %s, want %s", tc.good, d, tc.want)
			}
		})
	}
}

func TestNoMoreAreEjectedThanAllowedAndNeverTheLastOne(t *testing.T) {
	for _, tc := range []struct {
		n, percent, want int
	}{
		{1, 100, 0}, {2, 10, 1}, {2, 100, 1}, {3, 0, 1}, {5, 50, 2}, {10, 10, 1}, {10, 50, 5}, {10, 100, 9},
	} {
		k := keyWith(plan.LeastRequest, passive, func(p *plan.Policy) { p.Passive.MaxEjectedPercent = uint8(tc.percent) })
		inWard(t, tc.n, k, func(w *ward) {
			for i := range tc.n {
				failTimes(w.Pool, addr(i), 5)
			}
			h := w.Health()
			if h.Ejected != tc.want || int(w.Tally().Ejections.Load()) != tc.want {
				t.Errorf("%d endpoints, %d%%: %d ejected, want %d", tc.n, tc.percent, h.Ejected, tc.want)
			}
			if got := int(w.Tally().Skipped.Load()); got != tc.n-tc.want {
				t.Errorf("%d endpoints, %d%%: %d skipped, want %d", tc.n, tc.percent, got, tc.n-tc.want)
			}
			if turn := take(w.Pool); turn.Endpoint == nil {
				t.Error("nothing is left")
			}
		})
	}
}

func TestWhatARequestFoundBeforeAnEjectionSaysNothingAfterIt(t *testing.T) {
	inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
		var old []upstream.Turn
		for range 20 {
			old = append(old, w.TakeAt(addr(0)))
		}
		failTimes(w.Pool, addr(0), 5)
		for i := range old[:5] {
			old[i].Release(time.Now(), upstream.Success, "ok")
		}
		w.wantState(0, "ejected")
		time.Sleep(33 * time.Second)
		turn := w.trial(0)
		for i := range old[5:10] {
			old[5+i].Release(time.Now(), upstream.Failure, "response_header_timeout")
		}
		w.wantState(0, "probing")
		done(&turn)
		w.wantState(0, "serving")
		for i := range old[10:] {
			old[10+i].Release(time.Now(), upstream.Failure, "response_header_timeout")
		}
		w.wantState(0, "serving")
		if n := w.Endpoints()[0].InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestBelowTheThresholdAllReadyEndpointsAreUsedAndItIsSaid(t *testing.T) {
	k := keyWith(plan.Random, passive, func(p *plan.Policy) {
		p.Passive.MaxEjectedPercent, p.PanicThresholdPercent = 100, 50
	})
	synctest.Test(t, func(t *testing.T) {
		r := upstream.NewRegistry()
		var told []plan.PoolHealth
		r.OnPanic = func(_ plan.PoolKey, h plan.PoolHealth) { told = append(told, h) }
		pl := pools(k, 5)
		pl[0].Endpoints[4].State = plan.NotReady
		r.Prepare(pl)
		p := r.Pool(k)
		failTimes(p, addr(0), 5)
		failTimes(p, addr(1), 5) // half of the four that are ready: not fewer than the threshold
		if p.Panic() || len(shares(p, 500)) != 2 {
			t.Fatalf("panic at the threshold: %+v", p.Health())
		}
		failTimes(p, addr(2), 5)
		if len(told) != 1 || told[0] != (plan.PoolHealth{Ready: 1, Ejected: 3, Panic: true}) {
			t.Fatalf("told %+v", told)
		}
		if got := shares(p, 500); len(got) != 4 {
			t.Errorf("in panic these are used: %v", got)
		}
		time.Sleep(40 * time.Second)
		for range 2 {
			turn := take(p) // a trial each
			turn.Release(time.Now(), upstream.Success, "ok")
		}
		if p.Panic() || len(told) != 2 || told[1].Panic {
			t.Errorf("panic does not end: %+v, told %+v", p.Health(), told)
		}
	})
}

func TestAnEndpointThatDrainsKeepsItsSessionsAndOneThatFailsDoesNot(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		pl := pools(w.Key, 3)
		pl[0].Endpoints[0].State, pl[0].Endpoints[1].State = plan.Draining, plan.NotReady
		w.r.Prepare(pl)
		for i, want := range []bool{true, false, true, false} { // the last one was never there
			if turn := w.TakeAt(addr(i)); (turn.Endpoint != nil) != want {
				t.Errorf("endpoint %d: %v", i, turn.Endpoint)
			}
		}
		w.r.Prepare(pools(w.Key, 3))
		failTimes(w.Pool, addr(2), 5)
		if turn := w.TakeAt(addr(2)); turn.Endpoint != nil {
			t.Error("an ejected endpoint keeps its sessions")
		}
	})
}

func TestAPolicyEditKeepsWhatIsKnownOfEachAddress(t *testing.T) {
	slow := func(p *plan.Policy) {
		p.LoadBalancing.SlowStart, p.LoadBalancing.SlowStartMinPercent = 100*time.Second, 10
	}
	inWard(t, 4, keyWith(plan.LeastRequest, passive, slow), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		failTimes(w.Pool, addr(1), 5)
		time.Sleep(33 * time.Second)
		trial := w.TakeAt(addr(2))
		trial.Release(time.Now(), upstream.Success, "")
		first := take(w.Pool) // one of both is tried while the policy is edited
		held := w.TakeAt(addr(3))
		until := w.view(1).Until

		edited := keyWith(plan.RoundRobin, passive, slow, func(p *plan.Policy) { p.Passive.ConsecutiveFailures = 7 })
		w.r.Prepare(pools(edited, 5))
		w.r.Retire(pools(edited, 5))
		old := w.Pool
		w.Pool = w.r.Pool(edited)
		if h := w.Health(); h.Ejected != 2 || h.Ready != 3 {
			t.Fatalf("%+v", h)
		}
		if first.Endpoint.Addr != addr(1) && !w.view(1).Until.Equal(until) {
			t.Error("the time of an ejection changed")
		}
		if w.view(3).Share != 100 || w.view(4).Share != 10 {
			t.Errorf("slow start: %+v %+v", w.view(3), w.view(4))
		}
		if n := w.Endpoints()[3].InFlight(); n != 1 {
			t.Errorf("%d in flight", n)
		}
		held.Release(time.Now(), upstream.Success, "ok")
		if n := w.Endpoints()[3].InFlight(); n != 0 {
			t.Errorf("%d in flight after its end", n)
		}
		// The trial that was on its way reports to the old pool: another is made.
		w.told = nil
		first.Release(time.Now(), upstream.Success, "ok")
		w.wantTold()
		one, two := take(w.Pool).Endpoint.Addr, take(w.Pool).Endpoint.Addr
		if one.Compare(two) > 0 {
			one, two = two, one
		}
		if one != addr(0) || two != addr(1) {
			t.Errorf("no trials of both, but %s and %s", one, two)
		}
		if w.Tally() != old.Tally() || w.Tally().Ejections.Load() != 2 {
			t.Error("the counters began anew")
		}
		// Without passive checks nothing would ever let it in again.
		plain := keyWith(plan.Random)
		w.r.Prepare(pools(plain, 5))
		if h := w.r.Pool(plain).Health(); h.Ejected != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestAnEndpointThatIsGoneIsNotJudged(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(2), 5)
		time.Sleep(33 * time.Second)
		trial := w.trial(2)
		var turns []upstream.Turn
		for range 5 {
			turns = append(turns, w.TakeAt(addr(0)))
		}
		w.told = nil
		gone := pools(w.Key, 3)
		gone[0].Endpoints = gone[0].Endpoints[1:2]
		w.r.Prepare(gone)
		for i := range turns {
			turns[i].Release(time.Now(), upstream.Failure, "reset")
		}
		trial.Release(time.Now(), upstream.Success, "ok")
		w.wantTold()
	})
}

func TestTheCountersOfAServicePortLiveAsLongAsOneOfItsPools(t *testing.T) {
	inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		var got []string
		w.Tally().Transitions(func(from, to string, n uint64) { got = append(got, fmt.Sprint(from, " ", to, " ", n)) })
		if strings.Join(got, ",") != "serving ejected 1" {
			t.Errorf("%v", got)
		}
		w.r.Retire(nil)
		w.r.Prepare(pools(w.Key, 2))
		if n := w.r.Pool(w.Key).Tally().Ejections.Load(); n != 0 {
			t.Errorf("%d", n)
		}
	})
}

// TestEligibleIsWhatIsPicked holds what people are told against what is done, in
// pools of random states.
func TestEligibleIsWhatIsPicked(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		k := keyWith(plan.Random, passive, func(p *plan.Policy) {
			p.Passive.MaxEjectedPercent = 100
			p.LoadBalancing.PreferClose = r.IntN(2) == 0
			p.PanicThresholdPercent = uint8(r.IntN(3) * 40)
		})
		pl := pools(k, 1+r.IntN(6))
		reg := upstream.NewRegistry()
		reg.Prepare(pl)
		p := reg.Pool(k)
		for i := range pl[0].Endpoints {
			if r.IntN(3) == 0 {
				failTimes(p, addr(i), 5)
			}
			e := &pl[0].Endpoints[i]
			e.State, e.Far = plan.EndpointState(max(0, r.IntN(5)-2)), r.IntN(2) == 0
		}
		reg.Prepare(pl)
		got := map[netip.AddrPort]bool{}
		for range 200 {
			if turn := take(p); turn.Endpoint != nil {
				got[turn.Endpoint.Addr] = true
				turn.Release(time.Now(), upstream.Inconclusive, "")
			}
		}
		for _, e := range p.Endpoints() {
			if p.Eligible(e, time.Now()) != got[e.Addr] {
				t.Fatalf("seed %d: %s is %+v, eligible %v, picked %v", seed, e.Addr, p.View(e, time.Now()), p.Eligible(e, time.Now()), got[e.Addr])
			}
		}
	}
}

func TestTrialsThatClientsAbandonDoNotFollowOneAnotherAtOnce(t *testing.T) {
	inWard(t, 3, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		time.Sleep(33 * time.Second)
		trials := 0
		for range 1000 { // ten seconds
			turn := take(w.Pool)
			time.Sleep(10 * time.Millisecond)
			if turn.Endpoint.Addr == addr(0) {
				trials++
				turn.Release(time.Now(), upstream.Inconclusive, "client_gone")
				continue
			}
			done(&turn)
		}
		t.Logf("%d trials, %d transitions", trials, len(w.told))
		if trials > 11 {
			t.Errorf("%d trials in ten seconds", trials)
		}
	})
}

func TestATrialThatTakesHoursKeepsNoOtherFromBeingOne(t *testing.T) {
	inWard(t, 2, keyWith(plan.LeastRequest, passive), func(w *ward) {
		failTimes(w.Pool, addr(0), 5)
		time.Sleep(33 * time.Second)
		upload := w.trial(0)
		time.Sleep(2*time.Minute - s)
		w.wantOthers(0)
		time.Sleep(s)
		if !w.Eligible(w.Endpoints()[0], time.Now()) {
			t.Error("it is not due")
		}
		turn := w.trial(0)
		w.wantOthers(0)
		done(&turn)
		w.wantTold("0: serving>ejected", "0: ejected>probing", "0: probing>serving")
		upload.Release(time.Now(), upstream.Failure, "upstream_reset") // it says nothing of now
		w.wantTold()
	})
}
