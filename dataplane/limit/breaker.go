package limit

import (
	"math"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Breaker bounds what a pool is asked to do at a time. It may be used by any
// number of goroutines.
//
// A request enters once, before its first endpoint is picked, and leaves at the
// end of its response's body; its retries go on inside, one after the other. A
// hedge needs a place of its own, by TryEnter.
//
// The bound of each endpoint is kept by arithmetic: with n endpoints that take
// requests and a bound of e each, no more than n x e are inside, so whoever is
// inside finds an endpoint with fewer than e (the pigeonhole principle), and
// waiting is in one queue. That needs a picker which leaves full endpoints out.
//
// A pool under a new policy takes over the gate of the one before it, with those
// inside and those who wait; which of the two sets the bounds is said by Claim.
type Breaker struct {
	*Gate
	// Connections counts those of the pool, idle ones included.
	Connections InFlight

	policy   plan.CircuitBreaker
	adaptive *Adaptive
	owned    *owned // of the gate
}

// owned says whose bounds hold at a gate.
type owned struct {
	mu        sync.Mutex
	by        *Breaker
	endpoints int
}

// NewBreaker returns the breaker of a pool. exclusive says that a connection
// carries one request at a time, as in HTTP/1: then the bound on connections
// bounds the requests, too. before is the breaker of the pool that this one
// replaces, or nil: it keeps its bounds until Claim is called.
func NewBreaker(p plan.CircuitBreaker, exclusive bool, now time.Time, before *Breaker) *Breaker {
	b := &Breaker{policy: p}
	if exclusive && p.MaxConnections > 0 {
		b.policy.MaxParallelRequests = lower(p.MaxParallelRequests, p.MaxConnections)
	}
	if before != nil && before.claims() {
		b.Gate, b.owned = before.Gate, before.owned
		if before.policy.Adaptive == p.Adaptive {
			b.adaptive = before.adaptive
		}
	} else {
		b.Gate, b.owned = NewGate(0, p.MaxPendingRequests, p.MaxPendingTime), &owned{by: b}
	}
	if p.Adaptive.On() && b.adaptive == nil {
		b.adaptive = NewAdaptive(p.Adaptive, now)
	}
	b.update()
	return b
}

// claims reports whether the bounds at the gate are those of b.
func (b *Breaker) claims() bool {
	b.owned.mu.Lock()
	defer b.owned.mu.Unlock()
	return b.owned.by == b
}

// Claim makes the bounds of b those that hold, with a number of endpoints that
// take requests.
func (b *Breaker) Claim(endpoints int) {
	b.owned.mu.Lock()
	defer b.owned.mu.Unlock()
	if b.owned.by != b {
		b.owned.by = b
		b.SetQueue(b.policy.MaxPendingRequests, b.policy.MaxPendingTime)
	}
	b.owned.endpoints = endpoints
	b.setLimit()
}

// Policy is what the breaker was made from.
func (b *Breaker) Policy() plan.CircuitBreaker { return b.policy }

// Adaptive is the limit that was found; 0 = none is looked for.
func (b *Breaker) Adaptive() uint32 {
	if b.adaptive == nil {
		return 0
	}
	return b.adaptive.Limit()
}

// Connect counts a connection to be made, unless there are as many as may be: the
// caller closes an idle one or gives up. Whoever closes a connection releases it.
func (b *Breaker) Connect() bool { return b.Connections.Acquire(b.policy.MaxConnections) }

// EndpointLimit is the bound of each endpoint; 0 = none.
func (b *Breaker) EndpointLimit() uint32 { return b.policy.EndpointMaxParallelRequests }

// SetEndpoints says how many endpoints take requests. Without one there is
// nothing to wait for, so there is no bound either.
func (b *Breaker) SetEndpoints(n int) {
	b.owned.mu.Lock()
	defer b.owned.mu.Unlock()
	if b.owned.by == b {
		b.owned.endpoints = n
		b.setLimit()
	}
}

// Observe tells the adaptive limit, if there is one, of a request that was
// answered or timed out: when its attempt began, and now.
func (b *Breaker) Observe(began, now time.Time) {
	if b.adaptive != nil && b.adaptive.Observe(began, now, b.Inside()) {
		b.update()
	}
}

func (b *Breaker) update() {
	b.owned.mu.Lock()
	defer b.owned.mu.Unlock()
	if b.owned.by == b {
		b.setLimit()
	}
}

// setLimit sets the lowest of the bounds; owned.mu is held.
func (b *Breaker) setLimit() {
	limit := b.policy.MaxParallelRequests
	if e := uint64(b.policy.EndpointMaxParallelRequests) * uint64(b.owned.endpoints); e > 0 {
		limit = lower(limit, uint32(min(e, math.MaxUint32)))
	}
	if b.adaptive != nil {
		limit = lower(limit, b.adaptive.Limit())
	}
	b.SetLimit(limit)
}

// lower returns the lower one of two limits, of which 0 is none.
func lower(a, b uint32) uint32 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
