package upstream

import (
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Registry holds the living pools by their keys.
type Registry struct {
	// Dial connects for checks; nil is TCP. This and what follows must be set
	// before the first use.
	Dial Dial
	// OnTransition is told of every change in what is known of an endpoint, and
	// OnPanic when a pool comes into panic or out of it; nil: nobody is. They
	// are called from any goroutine, without locks, and must not block.
	OnTransition func(plan.Transition)
	OnPanic      func(plan.PoolKey, plan.PoolHealth)

	born time.Time

	mu      sync.Mutex
	pools   map[plan.PoolKey]*Pool
	tallies map[service]*Tally
	awaited []*Pool // whose first results readiness waits for

	run runner
}

// service is what the pools of different policies have in common.
type service struct {
	namespace, name string
	port            uint16
}

func serviceOf(k plan.PoolKey) service { return service{k.Namespace, k.Service, k.Port} }

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{born: time.Now(), pools: make(map[plan.PoolKey]*Pool), tallies: make(map[service]*Tally)}
}

// Prepare makes sure that every pool of the plan lives and has its members. It
// retires nothing: the table in use may still send to pools that the plan has
// no longer. A new pool takes over what a living one of the same Service port
// knows of its endpoints.
func (r *Registry) Prepare(pools []plan.Pool) {
	now := time.Now()
	var before map[service]*Pool // the living ones, looked up when the first new pool comes
	var stays map[plan.PoolKey]bool
	for _, want := range pools {
		p := r.Pool(want.Key)
		if p != nil {
			p.update(want.Endpoints, nil, now)
			p.claim()
			continue
		}
		if before == nil {
			before, stays = r.predecessors(pools), keys(pools)
		}
		old := before[serviceOf(want.Key)]
		r.mu.Lock()
		p = newPool(r, want.Key, old, now)
		r.mu.Unlock()
		p.Breaker = newBreaker(&want.Key, old, old != nil && stays[old.Key], now)
		p.update(want.Endpoints, old, now)
		p.claim()
		r.mu.Lock()
		r.pools[want.Key] = p
		r.mu.Unlock()
		r.startProbing(p)
	}
}

// predecessors gives for each Service port the living pool that a new one takes
// over from: rather one that the plan does not have any more.
func (r *Registry) predecessors(pools []plan.Pool) map[service]*Pool {
	stays := keys(pools)
	found := make(map[service]*Pool)
	for _, p := range r.Pools() {
		s := serviceOf(p.Key)
		if old := found[s]; old == nil || stays[old.Key] && !stays[p.Key] {
			found[s] = p
		}
	}
	return found
}

func keys(pools []plan.Pool) map[plan.PoolKey]bool {
	all := make(map[plan.PoolKey]bool, len(pools))
	for i := range pools {
		all[pools[i].Key] = true
	}
	return all
}

// Pool returns the living pool of a key, or nil.
func (r *Registry) Pool(key plan.PoolKey) *Pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pools[key]
}

// Pools returns all living pools in no order.
func (r *Registry) Pools() []*Pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Pool, 0, len(r.pools))
	for _, p := range r.pools {
		all = append(all, p)
	}
	return all
}

// Retire ends the pools that the plan does not have. It is called after the
// plan's table was published.
func (r *Registry) Retire(pools []plan.Pool) {
	keep := keys(pools)
	for _, p := range r.Pools() {
		if !keep[p.Key] {
			r.remove(p)
			p.retire()
		}
	}
}

func (r *Registry) remove(p *Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pools, p.Key)
	if p.tally.pools--; p.tally.pools == 0 {
		delete(r.tallies, serviceOf(p.Key))
	}
}

// tally returns the counters for a new pool of a Service port; r.mu is held.
func (r *Registry) tally(key plan.PoolKey) *Tally {
	s := serviceOf(key)
	t := r.tallies[s]
	if t == nil {
		t = new(Tally)
		r.tallies[s] = t
	}
	t.pools++
	return t
}

// AwaitChecks makes Warm wait for the pools that live now.
func (r *Registry) AwaitChecks() {
	all := r.Pools()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awaited = all
}

// Warm returns a pool of those that AwaitChecks has noted, and that still live,
// whose first results are not all there and whose time for that is not over:
// that of one check and a second, at most ten. nil: there is none.
func (r *Registry) Warm(now time.Time) (waitsFor *Pool) {
	r.mu.Lock()
	awaited := r.awaited
	r.mu.Unlock()
	for _, p := range awaited {
		if !p.warm(now) && r.Pool(p.Key) == p {
			return p
		}
	}
	return nil
}

// Failing returns a pool that has checks and no endpoint that passes them; nil:
// there is none.
func (r *Registry) Failing() *Pool {
	for _, p := range r.Pools() {
		if !p.passes() {
			return p
		}
	}
	return nil
}
