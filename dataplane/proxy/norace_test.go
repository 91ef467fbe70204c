//go:build !race

package proxy_test

import (
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// everyLimit puts each limit there is on the rule of a plan, out of reach.
func everyLimit(p *plan.Plan) {
	p.Pools[0].Key.Policy.Breaker = plan.CircuitBreaker{
		MaxConnections: 10, MaxParallelRequests: 10, EndpointMaxParallelRequests: 10,
		Adaptive: plan.AdaptiveConcurrency{MinRequests: 1, MaxRequests: 10},
	}
	r := &p.Routes[0].Rules[0]
	r.Legs[0].Pool = p.Pools[0].Key
	r.Limits.MaxInFlight = 10
	for _, k := range []plan.LimitKey{
		{Source: plan.LimitByClientIP}, {Source: plan.LimitByHeader, Name: "user-agent"}, {Source: plan.LimitByCookie, Name: "s"}, {Source: plan.LimitByRoute},
	} {
		l := plan.RateLimit{Requests: 1e6, Period: time.Second, Burst: 1e6, Key: k}
		r.Filters = append(r.Filters, plan.Filter{Type: plan.FilterRateLimit, RateLimit: l})
	}
}

// TestAKeepAliveRequestAllocatesNothing does not run under the race detector,
// which makes sync.Pool forget things on purpose; make test runs it without.
func TestAKeepAliveRequestAllocatesNothing(t *testing.T) {
	asIs := func(*plan.Plan) {}
	for _, tc := range []struct {
		name, request string
		change        func(*plan.Plan)
	}{
		{"GET", smallGet, asIs},
		{"POST", smallPost, asIs},
		{"GET through a trusted proxy", forwardedGet, asIs},
		{"GET through every limit", smallGet, everyLimit},
	} {
		w := newPlannedWire(t, tc.request, response(1024), tc.change)
		for range 200 {
			w.roundTrip(t) // until pools and buffers have what they need
		}
		// AllocsPerRun rounds down: what the collector takes out of the pools
		// now and then does not count.
		if n := testing.AllocsPerRun(2000, func() { w.roundTrip(t) }); n > 0 {
			t.Errorf("%s: %v allocations per request", tc.name, n)
		}
	}
}
