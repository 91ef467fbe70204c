package limit

import (
	"testing"
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
		b := NewBreaker(c.policy, c.exclusive, noon)
		b.SetEndpoints(c.endpoints)
		if got := b.Limit(); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestABreakerCountsConnections(t *testing.T) {
	b := NewBreaker(plan.CircuitBreaker{MaxConnections: 2}, true, noon)
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
	b := NewBreaker(plan.CircuitBreaker{Adaptive: plan.AdaptiveConcurrency{MaxRequests: 200}}, true, noon)
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
