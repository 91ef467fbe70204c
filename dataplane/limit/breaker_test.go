package limit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestABreakerTakesTheLowestOfItsBounds(t *testing.T) {
	for name, c := range map[string]struct {
		policy    plan.CircuitBreaker
		exclusive bool
		endpoints int
		want      uint32
	}{
		"none":                        {plan.CircuitBreaker{}, true, 3, 0},
		"parallel":                    {plan.CircuitBreaker{MaxParallelRequests: 7}, true, 3, 7},
		"connections, HTTP/1":         {plan.CircuitBreaker{MaxConnections: 5, MaxParallelRequests: 7}, true, 3, 5},
		"connections, HTTP/2":         {plan.CircuitBreaker{MaxConnections: 5, MaxParallelRequests: 7}, false, 3, 7},
		"connections alone":           {plan.CircuitBreaker{MaxConnections: 5}, true, 3, 5},
		"endpoints":                   {plan.CircuitBreaker{MaxParallelRequests: 7, EndpointMaxParallelRequests: 2}, true, 3, 6},
		"endpoints, and there is one": {plan.CircuitBreaker{EndpointMaxParallelRequests: 2}, true, 1, 2},
		"endpoints, and none":         {plan.CircuitBreaker{EndpointMaxParallelRequests: 2}, true, 0, 0},
		"adaptive":                    {plan.CircuitBreaker{MaxParallelRequests: 70, Adaptive: plan.AdaptiveConcurrency{MaxRequests: 200}}, true, 3, firstLimit},
		"adaptive is the higher one":  {plan.CircuitBreaker{MaxParallelRequests: 7, Adaptive: plan.AdaptiveConcurrency{MaxRequests: 200}}, true, 3, 7},
		"too many endpoints to count": {plan.CircuitBreaker{EndpointMaxParallelRequests: 1 << 31}, true, 3, 0},
	} {
		b := NewBreaker(c.policy, c.exclusive, noon, nil)
		b.SetEndpoints(c.endpoints)
		if got := b.Limit(); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestABreakerCountsConnections(t *testing.T) {
	b := NewBreaker(plan.CircuitBreaker{MaxConnections: 2}, true, noon, nil)
	for i, want := range []bool{true, true, false} {
		if got := b.Connect(); got != want {
			t.Errorf("connection %d: %t", i, got)
		}
	}
	b.Connections.Release()
	if !b.Connect() {
		t.Error("not another one after one was closed")
	}
}

func TestABreakerFollowsWhatItObserves(t *testing.T) {
	b := NewBreaker(plan.CircuitBreaker{Adaptive: plan.AdaptiveConcurrency{MaxRequests: 200}}, true, noon, nil)
	now := noon
	for range 200 {
		for range firstLimit {
			b.TryEnter()
		}
		now = now.Add(20 * time.Millisecond)
		for b.Inside() > 0 {
			b.Observe(now.Add(-10*time.Millisecond), now)
			b.Leave()
		}
	}
	if got := b.Limit(); got <= firstLimit {
		t.Errorf("a pool that is fast has a limit of %d", got)
	}
}

func TestABreakerTakesOverThoseInsideAndWaitingFromTheOneBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := NewBreaker(plan.CircuitBreaker{MaxParallelRequests: 2, MaxPendingRequests: 1}, true, noon, nil)
		old.Claim(1)
		for range 2 {
			old.TryEnter()
		}
		waits := enter(old.Gate, time.Time{}, nil)
		next := NewBreaker(plan.CircuitBreaker{MaxParallelRequests: 3, MaxPendingRequests: 2}, true, noon, old)
		if next.Inside() != 2 || next.Waiting() != 1 || next.Limit() != 2 {
			t.Errorf("before it claims: %d inside, %d waiting, limit %d", next.Inside(), next.Waiting(), next.Limit())
		}
		next.Claim(1)
		if got := answered(t, waits); got != Admitted || next.Limit() != 3 {
			t.Errorf("with its higher limit, %d: %v", next.Limit(), got)
		}
		a, b := enter(next.Gate, time.Time{}, nil), enter(next.Gate, time.Time{}, nil)
		if next.Waiting() != 2 {
			t.Errorf("%d waiting", next.Waiting())
		}
		old.SetEndpoints(7) // has no say any more
		third := NewBreaker(plan.CircuitBreaker{MaxParallelRequests: 9}, true, noon, old)
		if third.Inside() != 0 || third.Limit() != 9 {
			t.Errorf("a second one took over, too: %d inside, limit %d", third.Inside(), third.Limit())
		}
		for range 3 {
			old.Leave() // whoever came in there leaves there
		}
		if answered(t, a) != Admitted || answered(t, b) != Admitted {
			t.Error("those who wait at the new one do not see who leaves the old one")
		}
		old.Claim(1) // the new policy is taken back
		if old.Limit() != 2 {
			t.Errorf("limit %d after it was taken back", old.Limit())
		}
	})
}

func TestALimitThatWasFoundOutlivesAnEditOfTheOtherBounds(t *testing.T) {
	p := plan.CircuitBreaker{Adaptive: plan.AdaptiveConcurrency{MaxRequests: 200}}
	old := NewBreaker(p, true, noon, nil)
	old.adaptive.limit.Store(77)
	p.MaxParallelRequests = 100
	next := NewBreaker(p, true, noon, old)
	next.Claim(1)
	if next.Limit() != 77 {
		t.Errorf("limit %d, want 77", next.Limit())
	}
}
