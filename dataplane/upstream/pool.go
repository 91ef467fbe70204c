package upstream

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Pool is the endpoints of a Service port under one policy. It lives as long as
// plans name its key.
type Pool struct {
	Key plan.PoolKey

	members atomic.Pointer[members]
	turn    atomic.Uint64 // of RoundRobin
}

// members is an immutable list of a pool's endpoints.
type members struct {
	all  []*Endpoint // sorted as in the plan
	open []*Endpoint // those that take new requests
}

func newPool(key plan.PoolKey) *Pool {
	p := &Pool{Key: key}
	p.members.Store(&members{})
	return p
}

// Endpoints returns all members, in the order of the plan. The slice must not be
// changed.
func (p *Pool) Endpoints() []*Endpoint { return p.members.Load().all }

// Eligible reports whether a new request may be sent to the endpoint.
func (p *Pool) Eligible(e *Endpoint) bool {
	for _, o := range p.members.Load().open {
		if o == e {
			return true
		}
	}
	return false
}

// Take picks an endpoint for a request and counts the request as in flight
// there until Endpoint.Release. It returns nil when no endpoint takes requests.
func (p *Pool) Take() *Endpoint {
	e := p.pick(p.members.Load().open)
	if e != nil {
		e.inFlight.Add(1)
	}
	return e
}

func (p *Pool) pick(open []*Endpoint) *Endpoint {
	switch len(open) {
	case 0:
		return nil
	case 1:
		return open[0]
	}
	if p.Key.Policy.LoadBalancing.Balancer == plan.RoundRobin {
		return open[(p.turn.Add(1)-1)%uint64(len(open))]
	}
	return twoChoices(open)
}

// twoChoices draws two different endpoints and takes the less busy one
// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
func twoChoices(open []*Endpoint) *Endpoint {
	r := rand.Uint64()
	n := uint64(len(open))
	i := (r & 0xffffffff) % n
	j := (r >> 32) % (n - 1)
	if j >= i {
		j++
	}
	if open[j].inFlight.Load() < open[i].inFlight.Load() {
		return open[j]
	}
	return open[i]
}

// update gives the pool its members. Endpoints whose address stays are kept with
// all that hangs on them; those that go are retired.
func (p *Pool) update(want []plan.Endpoint) {
	old := p.members.Load()
	if sameMembers(old.all, want) {
		return
	}
	byAddr := make(map[netip.AddrPort]*Endpoint, len(old.all))
	for _, e := range old.all {
		byAddr[e.Addr] = e
	}
	next := &members{all: make([]*Endpoint, 0, len(want))}
	for _, w := range want {
		e := byAddr[w.Addr]
		if e == nil {
			e = newEndpoint(w)
		}
		delete(byAddr, w.Addr)
		e.state.Store(uint32(w.State))
		next.all = append(next.all, e)
	}
	next.open = openEndpoints(next.all)
	p.members.Store(next)
	for _, gone := range byAddr {
		gone.retire()
	}
}

// openEndpoints are the ready ones or, when there is none, those that drain:
// they still serve, and nothing else does (KEP-1669).
func openEndpoints(all []*Endpoint) []*Endpoint {
	for _, state := range []plan.EndpointState{plan.Ready, plan.Draining} {
		var open []*Endpoint
		for _, e := range all {
			if e.State() == state {
				open = append(open, e)
			}
		}
		if len(open) > 0 {
			return open
		}
	}
	return nil
}

func sameMembers(have []*Endpoint, want []plan.Endpoint) bool {
	if len(have) != len(want) {
		return false
	}
	for i, e := range have {
		if e.Addr != want[i].Addr || e.State() != want[i].State {
			return false
		}
	}
	return true
}

// retire closes what the pool keeps idle.
func (p *Pool) retire() {
	for _, e := range p.members.Load().all {
		e.retire()
	}
}
