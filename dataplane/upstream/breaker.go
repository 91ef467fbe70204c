package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// newBreaker is the breaker of a new pool; nil when its policy bounds nothing. It
// takes over from that of the pool that it replaces, but not from one that stays
// beside it. Connections carry one request at a time.
func newBreaker(key *plan.PoolKey, before *Pool, stays bool, now time.Time) *limit.Breaker {
	p := key.Policy.Breaker
	if !p.On() {
		return nil
	}
	var old *limit.Breaker
	if before != nil && !stays {
		old = before.Breaker
	}
	return limit.NewBreaker(p, true, now, old)
}

// claim makes the pool's bounds those that hold: it is in the plan.
func (p *Pool) claim() {
	if p.Breaker == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Breaker.Claim(len(p.members.Load().open))
}

// holdWithRoom holds the endpoint that was picked, or another one that takes
// requests when that one has as many as each may have.
//
// Who has entered the breaker finds one with room, unless a pool beside this one
// sends to the same endpoints.
func (p *Pool) holdWithRoom(m *members, picked *Endpoint, ask *Ask) Turn {
	most := int64(p.Breaker.EndpointLimit())
	if t, ok := picked.holdUnder(most); ok {
		return t
	}
	from := 0
	if p.Key.Policy.LoadBalancing.Balancer != plan.FirstHealthy {
		from = rand.IntN(len(m.open))
	}
	for i := range maxLooks * len(m.open) {
		e := m.open[(from+i)%len(m.open)]
		if ask.another() && ask.Tried.Has(e) {
			continue
		}
		if t, ok := e.holdUnder(most); ok {
			return t
		}
	}
	return Turn{Full: true}
}

// maxLooks is how often all endpoints are looked at for what one of them has:
// while they are, it may move to one that was looked at already.
const maxLooks = 4

// hasRoom reports whether an endpoint has fewer requests than each may have.
func (p *Pool) hasRoom(e *Endpoint) bool {
	return p.Breaker == nil || p.Breaker.EndpointLimit() == 0 || e.load.inFlight.Load() < int64(p.Breaker.EndpointLimit())
}

// holdUnder is hold for an endpoint that may have so many requests in flight.
func (e *Endpoint) holdUnder(most int64) (t Turn, ok bool) {
	for {
		n := e.load.inFlight.Load()
		if n >= most {
			return Turn{}, false
		}
		if e.load.inFlight.CompareAndSwap(n, n+1) {
			return e.held(), true
		}
	}
}

// Connect asks for a connection to an endpoint to be made. When there are as many
// as there may be, an idle one is closed for it; false: none is idle. What was
// asked for is released from Breaker.Connections when it is closed or was not
// made after all. Who has entered the breaker gets one.
func (p *Pool) Connect() bool {
	for range maxLooks {
		if p.Breaker.Connect() {
			return true
		}
		p.CloseIdle()
	}
	return false
}

// CloseIdle closes the oldest idle connection of an endpoint that has one; false:
// none has.
func (p *Pool) CloseIdle() bool {
	all := p.members.Load().all
	if len(all) == 0 {
		return false
	}
	from := rand.IntN(len(all))
	for i := range all {
		if c, ok := all[(from+i)%len(all)].idle.shift(); ok {
			_ = c.conn.Close() // unused: how it closes does not matter
			return true
		}
	}
	return false
}
