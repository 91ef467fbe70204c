package plan

import "time"

// CircuitBreaker bounds what a pool is asked to do at a time. It is comparable;
// the zero value bounds nothing.
type CircuitBreaker struct {
	// MaxConnections to the pool, idle ones included; 0 = no bound.
	MaxConnections uint32
	// MaxParallelRequests of the pool and of each endpoint; 0 = no bound.
	MaxParallelRequests, EndpointMaxParallelRequests uint32
	// MaxPendingRequests wait for one of the bounds above to give way, first
	// come, first served; 0 = none waits. MaxPendingTime is how long; 0 = up to
	// the request's own deadline.
	MaxPendingRequests uint32
	MaxPendingTime     time.Duration
	// Adaptive finds a further bound on parallel requests.
	Adaptive AdaptiveConcurrency
}

// AdaptiveConcurrency finds how many requests a pool does well at a time from
// how long they take. The zero value is off.
type AdaptiveConcurrency struct {
	// MinRequests and MaxRequests that the bound stays between. MaxRequests 0 =
	// off; MinRequests 0 = 1.
	MinRequests, MaxRequests uint32
}

// On reports whether a bound is looked for.
func (a AdaptiveConcurrency) On() bool { return a.MaxRequests > 0 }

// On reports whether anything is bounded.
func (c CircuitBreaker) On() bool {
	return c.MaxConnections > 0 || c.MaxParallelRequests > 0 || c.EndpointMaxParallelRequests > 0 || c.Adaptive.On()
}
