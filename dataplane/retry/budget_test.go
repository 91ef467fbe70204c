package retry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// byDefault is the budget that the API documents.
var byDefault = plan.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinCount: 10, MinInterval: time.Second}

// event is something that a budget was asked for.
type event struct {
	at    time.Duration
	retry bool // else a request
}

// FuzzBudget holds the bound of Budget's comment for every period that begins
// and ends with a retry. The bytes say how much goes on when.
func FuzzBudget(f *testing.F) {
	f.Add(uint8(20), uint16(10000), uint8(10), []byte{5, 200, 0, 5, 200, 255, 3, 90})
	f.Add(uint8(0), uint16(1000), uint8(1), []byte{1, 255, 1, 255, 200, 255})
	f.Add(uint8(100), uint16(7), uint8(0), []byte{255, 255, 1, 0, 1, 255, 30, 255})
	f.Add(uint8(50), uint16(0), uint8(3), []byte{9, 255, 1, 0, 1, 255, 30, 255})
	f.Fuzz(func(t *testing.T, percent uint8, intervalMillis uint16, minCount uint8, what []byte) {
		policy := plan.RetryBudget{Percent: percent, Interval: time.Duration(intervalMillis) * time.Millisecond, MinCount: uint32(minCount), MinInterval: time.Second}
		b := NewBudget(policy, noon)
		var events []event
		var at time.Duration
		for i := 0; i+1 < len(what) && len(events) < 1000; i += 2 {
			at += time.Duration(what[i]) * time.Duration(intervalMillis+1) * time.Millisecond / 50
			for range what[i+1] % 16 {
				b.Deposit(noon.Add(at))
				events = append(events, event{at, false})
			}
			for range what[i+1] / 16 {
				if b.Withdraw(noon.Add(at)) {
					events = append(events, event{at, true})
				}
			}
		}
		checkBound(t, policy, events)
	})
}

func checkBound(t *testing.T, p plan.RetryBudget, events []event) {
	t.Helper()
	for i, first := range events {
		if !first.retry {
			continue
		}
		requests, retries, from := 0, 0, i
		for from > 0 && events[from-1].at >= first.at-p.Interval {
			from--
			if !events[from].retry {
				requests++
			}
		}
		for _, e := range events[i:] {
			if !e.retry {
				requests++
				continue
			}
			retries++
			floor := 0.0
			if p.MinCount > 0 {
				floor = float64(p.MinCount) * (1 + (e.at-first.at).Seconds()/p.MinInterval.Seconds())
			}
			if bound := float64(p.Percent)/100*float64(requests) + floor; float64(retries) > bound+1e-6 {
				t.Fatalf("%+v: %d retries from %v to %v, and a bound of %v (%d requests)", p, retries, first.at, e.at, bound, requests)
			}
		}
	}
}

func TestABudgetPaysItsShareAndItsFloor(t *testing.T) {
	b := NewBudget(byDefault, noon)
	withdraw := func(now time.Time) (n int) {
		for b.Withdraw(now) {
			n++
		}
		return n
	}
	for range 1000 {
		b.Deposit(noon)
	}
	if got := withdraw(noon); got != 210 {
		t.Errorf("of 1000 requests %d retries, want 20%% and 10", got)
	}
	if got := withdraw(noon.Add(500 * time.Millisecond)); got != 5 {
		t.Errorf("after half a second %d retries, want half of the floor", got)
	}
	if got := withdraw(noon.Add(11 * time.Second)); got != 10 {
		t.Errorf("when the requests are long ago %d retries, want the floor", got)
	}
	if got := withdraw(noon.Add(-time.Hour)); got != 0 {
		t.Errorf("by a clock that goes backwards %d retries", got)
	}
}

func TestARequestCountsForTheIntervalAndNoLonger(t *testing.T) {
	policy := byDefault
	policy.MinCount = 0
	for after, want := range map[time.Duration]bool{policy.Interval - time.Millisecond: true, policy.Interval: false} {
		b := NewBudget(policy, noon)
		for range 5 {
			b.Deposit(noon)
		}
		if got := b.Withdraw(noon.Add(after)); got != want {
			t.Errorf("after %v: %t", after, got)
		}
	}
}

func TestABudgetOfNothingPaysNothing(t *testing.T) {
	b := NewBudget(plan.RetryBudget{}, noon)
	b.Deposit(noon)
	if b.Withdraw(noon) {
		t.Error("it paid")
	}
}

func TestABudgetKeepsItsBoundUnderConcurrentUse(t *testing.T) {
	policy := byDefault
	policy.MinCount = 0
	policy.Interval = 100 * time.Millisecond
	b := NewBudget(policy, noon)
	const workers, each = 8, 5000
	var paid, clock atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range each {
				// Clocks of several goroutines, told a little late.
				now := noon.Add(time.Duration(clock.Add(1000)) - time.Duration(r.IntN(2_000_000)))
				b.Deposit(now)
				if b.Withdraw(now) {
					paid.Add(1)
				}
				if b.Withdraw(now) {
					paid.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := paid.Load(); n > workers*each/5 || n < workers*each/10 {
		t.Errorf("%d of %d requests were retried, want up to a fifth", n, workers*each)
	}
}

// TestAStormOfRetriesStaysWithinTheBudget has pools of which a share of the
// requests fails, and policies that ask for many attempts.
func TestAStormOfRetriesStaysWithinTheBudget(t *testing.T) {
	const requests, perSecond = 20000, 1000
	p := usual(plan.RetrySafe)
	p.Attempts, p.Backoff = 10, 0
	r := rand.New(rand.NewPCG(1, 2))
	t.Log("failing  upstream/client  client errors")
	for _, failing := range []float64{0, 0.01, 0.1, 0.25, 0.5, 0.9, 1} {
		b := NewBudget(byDefault, noon)
		upstream, errs := 0, 0
		for i := range requests {
			now := noon.Add(time.Duration(i) * time.Second / perSecond)
			b.Deposit(now)
			for s := (State{Class: Safe, Body: BodyNone, Outcome: OutcomeStatus, Status: 503, Untried: true, Now: now}); ; s.Retries++ {
				upstream++
				if r.Float64() >= failing {
					break
				}
				if d := Decide(&p, &s); d.Action == Stop || !b.Withdraw(now) {
					errs++
					break
				}
			}
		}
		t.Logf("%6.0f%%  %15.3f  %12.2f%%", failing*100, float64(upstream)/requests, float64(errs)*100/requests)
		if most := 1.2*requests + 10*(1+requests/perSecond); float64(upstream) > most {
			t.Errorf("with %v failing %d upstream requests, more than %v", failing, upstream, most)
		}
		if failing <= 0.1 && errs > 0 {
			t.Errorf("with %v failing %d errors that the budget could have paid for", failing, errs)
		}
	}
}

func TestABudgetAllocatesNothing(t *testing.T) {
	b := NewBudget(byDefault, noon)
	now := noon
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Millisecond)
		b.Deposit(now)
		b.Withdraw(now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDeposit(b *testing.B) {
	budget := NewBudget(byDefault, noon)
	now := noon.Add(time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Deposit(now)
		}
	})
}

func BenchmarkWithdrawInAStorm(b *testing.B) {
	budget := NewBudget(byDefault, noon)
	now := noon.Add(time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Withdraw(now)
		}
	})
}
