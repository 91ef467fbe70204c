package translate

import (
	"cmp"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// What a circuit breaker has where its stanza says nothing.
var (
	builtInBreaker  = plan.CircuitBreaker{MaxPendingRequests: 1024, MaxPendingTime: 5 * time.Second}
	builtInAdaptive = plan.AdaptiveConcurrency{MinRequests: 4, MaxRequests: 1000}
)

// readCircuitBreaker reads the stanza circuitBreaker. One that bounds nothing is
// none, whatever it says of those who would wait.
func readCircuitBreaker(f *fields, from *v1alpha1.CircuitBreaker) plan.CircuitBreaker {
	const at = "circuitBreaker."
	const most = 1000000
	c := builtInBreaker
	c.MaxConnections = uint32(f.number(at+"maxConnections", from.MaxConnections, 0, 0, most))
	c.MaxParallelRequests = uint32(f.number(at+"maxParallelRequests", from.MaxParallelRequests, 0, 0, most))
	c.MaxPendingRequests = uint32(f.number(at+"maxPendingRequests", from.MaxPendingRequests, int32(c.MaxPendingRequests), 0, 65535))
	c.MaxPendingTime = f.duration(at+"pendingTimeout", from.PendingTimeout, c.MaxPendingTime)
	if e := from.PerEndpoint; e != nil {
		c.EndpointMaxParallelRequests = uint32(f.number(at+"perEndpoint.maxParallelRequests", e.MaxParallelRequests, 0, 0, most))
	}
	if a := from.Adaptive; a != nil {
		c.Adaptive = plan.AdaptiveConcurrency{
			MinRequests: uint32(f.number(at+"adaptive.minParallelRequests", a.MinParallelRequests, int32(builtInAdaptive.MinRequests), 1, most)),
			MaxRequests: uint32(f.number(at+"adaptive.maxParallelRequests", a.MaxParallelRequests, int32(builtInAdaptive.MaxRequests), 1, most)),
		}
		if c.Adaptive.MinRequests > c.Adaptive.MaxRequests {
			f.fail(at+"adaptive.minParallelRequests: %d is above maxParallelRequests, %d", c.Adaptive.MinRequests, c.Adaptive.MaxRequests)
		}
	}
	if !c.On() {
		return plan.CircuitBreaker{}
	}
	return c
}

func compareBreakers(a, b *plan.CircuitBreaker) int {
	return cmp.Or(
		cmp.Compare(a.MaxConnections, b.MaxConnections),
		cmp.Compare(a.MaxParallelRequests, b.MaxParallelRequests),
		cmp.Compare(a.EndpointMaxParallelRequests, b.EndpointMaxParallelRequests),
		cmp.Compare(a.MaxPendingRequests, b.MaxPendingRequests),
		cmp.Compare(a.MaxPendingTime, b.MaxPendingTime),
		cmp.Compare(a.Adaptive.MinRequests, b.Adaptive.MinRequests),
		cmp.Compare(a.Adaptive.MaxRequests, b.Adaptive.MaxRequests),
	)
}
