package upstream

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// Pool is the endpoints of a Service port under one policy. It lives as long as
// plans name its key.
type Pool struct {
	Key plan.PoolKey
	// Breaker bounds what the pool is asked to do at a time; nil: nothing does.
	// Who wants an endpoint of the pool enters it first.
	Breaker *limit.Breaker
	// Budget pays for the retries of the pool's requests. A pool takes over that
	// of its predecessor when their policies for it are equal.
	Budget *retry.Budget

	members  atomic.Pointer[members]
	turn     atomic.Uint64 // of RoundRobin
	hashed   bool          // inFlight is kept
	inFlight atomic.Int64  // at all endpoints, for the bound of ConsistentHash

	born         time.Time // what since counts from
	tally        *Tally    // shared by all pools of the Service port
	onTransition func(plan.Transition)
	onPanic      func(plan.PoolKey, plan.PoolHealth)

	mu      sync.Mutex // for changes of members, of what endpoints guard by it and of what follows
	retired bool
	// left are endpoints that are gone and have something in flight still.
	left    map[netip.AddrPort]*Endpoint
	stop    context.CancelFunc // ends the checks
	wake    chan struct{}      // the prober has to look again
	checked time.Time          // since when there are checks; zero: they have not begun
}

func newPool(r *Registry, key plan.PoolKey, before *Pool, now time.Time) *Pool {
	p := &Pool{
		Key: key, hashed: key.Policy.LoadBalancing.Balancer == plan.ConsistentHash, born: r.born,
		tally: r.tally(key), onTransition: r.OnTransition, onPanic: r.OnPanic,
		left: make(map[netip.AddrPort]*Endpoint), stop: func() {}, wake: make(chan struct{}, 1),
	}
	if before != nil && before.Key.Policy.RetryBudget == key.Policy.RetryBudget {
		p.Budget = before.Budget
	} else {
		p.Budget = retry.NewBudget(key.Policy.RetryBudget, now)
	}
	p.members.Store(&members{roster: &roster{}, nextTrial: never})
	return p
}

// since is a time as the pool counts it, in ns on the monotonic clock.
func (p *Pool) since(t time.Time) int64 { return int64(t.Sub(p.born)) }

// Endpoints returns all members, in the order of the plan. The slice must not be
// changed.
func (p *Pool) Endpoints() []*Endpoint { return p.members.Load().all }

// Eligible reports whether a new request may be sent to the endpoint: it takes
// requests, or is due for its trial.
func (p *Pool) Eligible(e *Endpoint, now time.Time) bool {
	m := p.members.Load()
	i, ok := m.index[e.Addr]
	if !ok || m.all[i] != e {
		return false
	}
	if m.fit[i]&fitNew != 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return e.State() == m.base && e.health.due(now)
}

// update gives the pool its members. Endpoints whose address stays are kept with
// all that hangs on them; those that go are retired. before is the pool that
// this one takes over from when it is new; nil: there is none.
func (p *Pool) update(want []plan.Endpoint, before *Pool, now time.Time) {
	old := p.members.Load()
	if sameMembers(old.all, want) {
		return
	}
	next := &roster{all: make([]*Endpoint, 0, len(want)), index: make(map[netip.AddrPort]int, len(want))}
	joined := len(old.open) > 0 || before != nil && len(before.members.Load().open) > 0
	p.mu.Lock()
	for _, w := range want {
		next.index[w.Addr] = len(next.all)
		next.all = append(next.all, p.member(old, w, joined, before, now))
	}
	maps.DeleteFunc(p.left, func(_ netip.AddrPort, e *Endpoint) bool { return e.InFlight() == 0 })
	var gone []*Endpoint
	for _, e := range old.all {
		if _, stays := next.index[e.Addr]; !stays {
			e.gone = true
			e.probe.cancel()
			gone = append(gone, e)
			if e.InFlight() > 0 {
				p.left[e.Addr] = e
			}
		}
	}
	if p.hashed {
		next.ring = ringFor(next.all, old.roster)
	}
	n := news{panics: p.publish(next)}
	if n.panics {
		n.health = p.count()
	}
	p.mu.Unlock()
	p.tell(n)
	p.nudge()
	for _, e := range gone {
		e.retire()
	}
}

// member is the endpoint of an address; p.mu is held. One that comes to take
// requests beside others that do begins slowly. One that was gone for a while, as
// when it moves from one EndpointSlice to another, keeps its upgraded connections.
func (p *Pool) member(old *members, w plan.Endpoint, joined bool, before *Pool, now time.Time) *Endpoint {
	if i, ok := old.index[w.Addr]; ok {
		e := old.all[i]
		if joined && e.State() != plan.Ready && w.State == plan.Ready {
			p.ramp(e, now)
		}
		e.adopt(w)
		return e
	}
	e := newEndpoint(p, w)
	e.health.since = now
	if was := p.left[w.Addr]; was != nil {
		e.load = was.load // so that it is left, too, for as long as any of it is in flight
		e.share(was.upgraded)
	}
	if before != nil && before.lend(e, now) {
		return e
	}
	if joined {
		p.ramp(e, now)
	}
	return e
}

// lend gives what is known of e's address to e, the endpoint of another pool.
func (p *Pool) lend(e *Endpoint, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.members.Load()
	i, ok := m.index[e.Addr]
	if ok {
		e.inherit(m.all[i], now)
	}
	return ok
}

func sameMembers(have []*Endpoint, want []plan.Endpoint) bool {
	if len(have) != len(want) {
		return false
	}
	for i, e := range have {
		if !e.is(want[i]) {
			return false
		}
	}
	return true
}

// retire lets go of what the endpoint has: idle connections at once, upgraded
// ones when their time is up, unless another pool has the endpoint, too.
func (e *Endpoint) retire() {
	e.idle.retire()
	e.upgraded.part(e.pool.Key.Policy.DrainTimeout)
}

// retire ends the probes of the pool and closes what it keeps idle. Nothing more
// is told of its endpoints.
func (p *Pool) retire() {
	p.mu.Lock()
	p.retired = true
	p.stop()
	all := p.members.Load().all
	for _, e := range all {
		e.gone = true
	}
	p.mu.Unlock()
	for _, e := range all {
		e.retire()
	}
}
