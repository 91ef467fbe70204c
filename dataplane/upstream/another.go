package upstream

import (
	"math/rand/v2"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxTried is how many endpoints one request can be tried at. It is more than
// retry.Decide ever asks for.
const maxTried = 24

// Tried is the endpoints that a request was sent to, or should have been. Its
// zero value is empty. It belongs to one request.
type Tried struct {
	all [maxTried]*Endpoint
	n   int
}

// Add notes an endpoint. A set that is full says of every endpoint that it was
// tried, so that nothing more is.
func (t *Tried) Add(e *Endpoint) {
	if t.n < maxTried {
		t.all[t.n] = e
		t.n++
	}
}

// Last returns the endpoint that was noted last; nil: none was.
func (t *Tried) Last() *Endpoint {
	if t.n == 0 {
		return nil
	}
	return t.all[t.n-1]
}

// Clear empties the set.
func (t *Tried) Clear() {
	clear(t.all[:t.n])
	t.n = 0
}

// Has reports whether an endpoint was tried.
func (t *Tried) Has(e *Endpoint) bool {
	for _, x := range t.all[:t.n] {
		if x == e {
			return true
		}
	}
	return t.n == maxTried
}

// another reports whether the request is a retry.
func (a *Ask) another() bool { return a.Tried != nil && a.Tried.n > 0 }

// HasAnother reports whether there is an endpoint that takes requests, has room for
// one and was not tried.
func (p *Pool) HasAnother(tried *Tried) bool {
	for _, e := range p.members.Load().open {
		if !tried.Has(e) && p.hasRoom(e) {
			return true
		}
	}
	return false
}

// another is pick for a request that was tried already: it goes by the balancer
// among the endpoints that were not, and is nil when there is none. Retries are
// few, so the slow start of an endpoint does not count, but for the keys that it
// does not have yet; and a retry is nobody's trial.
func (p *Pool) another(m *members, t int64, ask *Ask) *Endpoint {
	switch p.Key.Policy.LoadBalancing.Balancer {
	case plan.FirstHealthy:
		for _, e := range m.open {
			if !ask.Tried.Has(e) {
				return e
			}
		}
		return nil
	case plan.ConsistentHash:
		if ask.Keyed && p.HasAnother(ask.Tried) {
			return p.byKey(m, t, ask)
		}
		return drawUntried(m.open, ask.Tried, nil)
	case plan.Random, plan.RoundRobin: // a retry takes no turn: those are for first tries
		return drawUntried(m.open, ask.Tried, nil)
	default:
		return p.betterUntried(m.open, t, ask.Tried)
	}
}

// betterUntried is the choice of two, by latency for PeakEWMA and by requests in
// flight for LeastRequest.
func (p *Pool) betterUntried(open []*Endpoint, t int64, tried *Tried) *Endpoint {
	a := drawUntried(open, tried, nil)
	b := drawUntried(open, tried, a)
	switch {
	case b == nil:
		return a
	case p.Key.Policy.LoadBalancing.Balancer == plan.PeakEWMA:
		if b.load.score(t, weightOne) < a.load.score(t, weightOne) {
			return b
		}
	case b.load.inFlight.Load() < a.load.inFlight.Load():
		return b
	}
	return a
}

// drawUntried draws evenly from the endpoints that were not tried and are not the
// one in not; nil: there is none.
func drawUntried(open []*Endpoint, tried *Tried, not *Endpoint) *Endpoint {
	out := 0
	for _, e := range open {
		if e == not || tried.Has(e) {
			out++
		}
	}
	if out == len(open) {
		return nil
	}
	nth := rand.IntN(len(open) - out)
	for _, e := range open {
		if e == not || tried.Has(e) {
			continue
		}
		if nth == 0 {
			return e
		}
		nth--
	}
	return nil // never: nth is below their number
}
