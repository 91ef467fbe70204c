package upstream

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Ask is what a request says to the pick of its endpoint.
type Ask struct {
	Now time.Time
	// Key is a hash of what ConsistentHash goes by, see Hash; without Keyed it
	// is balanced at random.
	Key   uint64
	Keyed bool
	// Tried are the endpoints that the request was tried at: none of them is
	// picked. nil: none.
	Tried *Tried
}

// Take picks an endpoint for a request and counts the request as in flight
// there until Turn.Release. The turn has no endpoint when none takes requests, or
// when each has as many as it may have (Turn.Full).
func (p *Pool) Take(ask Ask) Turn {
	m := p.members.Load()
	var t int64
	if m.nextTrial != never || m.rampUntil != 0 || p.Key.Policy.LoadBalancing.Balancer == plan.PeakEWMA {
		t = p.since(ask.Now)
		if t >= m.nextTrial && !ask.another() {
			if turn, ok := p.takeTrial(ask.Now); ok {
				return turn
			}
		}
	}
	e := p.pick(m, t, &ask)
	if e == nil {
		return Turn{}
	}
	var turn Turn
	if p.Breaker != nil && p.Breaker.EndpointLimit() > 0 {
		turn = p.holdWithRoom(m, e, &ask)
	} else {
		turn = e.hold()
	}
	if turn.Endpoint != nil && p.Key.Policy.LoadBalancing.Balancer == plan.PeakEWMA {
		turn.ask(t)
	}
	return turn
}

// TakeAt is Take for a request of a session that the endpoint of an address has.
// The turn has no endpoint when the pool has not got that address any more or
// something speaks against it, or when it has as many requests as it may have
// (Turn.Full). One that drains keeps its sessions.
func (p *Pool) TakeAt(addr netip.AddrPort) Turn {
	m := p.members.Load()
	i, ok := m.index[addr]
	if !ok || m.fit[i]&fitSession == 0 {
		return Turn{}
	}
	if p.Breaker == nil || p.Breaker.EndpointLimit() == 0 {
		return m.all[i].hold()
	}
	t, room := m.all[i].holdUnder(int64(p.Breaker.EndpointLimit()))
	t.Full = !room
	return t
}

// pick chooses by the pool's balancer. It changes nothing but the turn of
// RoundRobin.
func (p *Pool) pick(m *members, t int64, ask *Ask) *Endpoint {
	switch {
	case ask.another():
		return p.another(m, t, ask)
	case len(m.open) == 0:
		return nil
	case len(m.open) == 1:
		return m.open[0]
	}
	ramping := t < m.rampUntil
	switch p.Key.Policy.LoadBalancing.Balancer {
	case plan.RoundRobin:
		return p.inTurn(m.open, t, ramping)
	case plan.PeakEWMA:
		return p.fastest(m.open, t, ramping)
	case plan.ConsistentHash:
		if ask.Keyed {
			return p.byKey(m, t, ask)
		}
		return p.draw(m.open, t, ramping, nil)
	case plan.Random:
		return p.draw(m.open, t, ramping, nil)
	case plan.FirstHealthy:
		return p.first(m.open, t, ramping)
	default:
		return p.leastBusy(m.open, t, ramping)
	}
}

// maxDraws bounds the search for an endpoint whose weight lets it be drawn. The
// last one is taken whatever its weight.
const maxDraws = 16

// draw picks at random, each endpoint as often as its weight says and never the
// one in not.
func (p *Pool) draw(open []*Endpoint, t int64, ramping bool, not *Endpoint) (e *Endpoint) {
	n := uint64(len(open))
	for range maxDraws {
		r := rand.Uint64()
		i := (r >> 32) * n >> 32
		if open[i] == not {
			i = (i + 1 + (r>>16&0xffff)*(n-1)>>16) % n // any other
		}
		e = open[i]
		if !ramping || r&(weightOne-1) < p.weight(e, t) {
			return e
		}
	}
	return e
}

// drawTwo draws two endpoints. While one is in its slow start they may be the
// same one: as the only other endpoint of two it would be drawn every time, and
// taken whenever it is less busy, whatever its weight.
func (p *Pool) drawTwo(open []*Endpoint, t int64, ramping bool) (a, b *Endpoint) {
	a = p.draw(open, t, ramping, nil)
	if ramping {
		return a, p.draw(open, t, ramping, nil)
	}
	return a, p.draw(open, t, ramping, a)
}

// leastBusy draws two endpoints and takes the one with fewer requests in flight
// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). One
// that is in its slow start is drawn less often and is to be less busy by its
// weight.
func (p *Pool) leastBusy(open []*Endpoint, t int64, ramping bool) *Endpoint {
	a, b := p.drawTwo(open, t, ramping)
	na, nb := a.load.inFlight.Load(), b.load.inFlight.Load()
	if ramping {
		na, nb = na*int64(p.weight(b, t)), nb*int64(p.weight(a, t))
	}
	if nb < na {
		return b
	}
	return a
}

// fastest is leastBusy by what a request would cost: latency times what is in
// flight.
func (p *Pool) fastest(open []*Endpoint, t int64, ramping bool) *Endpoint {
	a, b := p.drawTwo(open, t, ramping)
	wa, wb := uint64(weightOne), uint64(weightOne)
	if ramping {
		wa, wb = p.weight(a, t), p.weight(b, t)
	}
	if b.load.score(t, wb) < a.load.score(t, wa) {
		return b
	}
	return a
}

// first is the first in order of address; the next while it is in its slow
// start and is not yet due.
func (p *Pool) first(open []*Endpoint, t int64, ramping bool) *Endpoint {
	if ramping {
		for _, e := range open {
			if rand.Uint64()&(weightOne-1) < p.weight(e, t) {
				return e
			}
		}
	}
	return open[0]
}

// inTurn is smooth weighted round robin without a lock. The turns go round the
// endpoints; one of weight w, of weightOne, is passed over in all but w of
// weightOne rounds, spread evenly over the rounds, and by its place in the list
// so that not all are passed over in the same one.
func (p *Pool) inTurn(open []*Endpoint, t int64, ramping bool) (e *Endpoint) {
	n := uint64(len(open))
	for range maxTurns {
		turn := p.turn.Add(1) - 1
		i, round := turn%n, turn/n
		e = open[i]
		if !ramping {
			return e
		}
		w := p.weight(e, t)
		if (w*round+i*(weightOne/2+1))%weightOne >= weightOne-w {
			return e
		}
	}
	return e
}

// keepTurn lets the turns go on where they were when others take requests from
// now on; p.mu is held. By number alone the same turn would be another endpoint's,
// and some would be passed over, or come again, at every change. Turns that are
// taken meanwhile are too few to matter.
func (p *Pool) keepTurn(before, now []*Endpoint) {
	if len(before) == 0 || len(now) == 0 {
		return
	}
	turn, n := p.turn.Load(), uint64(len(before))
	for i := range min(n, maxTurns) {
		if at := slices.Index(now, before[(turn+i)%n]); at >= 0 {
			p.turn.Store(turn/n*uint64(len(now)) + uint64(at))
			return
		}
	}
}

// maxTurns bounds the endpoints that a request passes over.
const maxTurns = 100
