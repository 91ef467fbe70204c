package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// sweepInterval is how often idle connections are looked over.
const sweepInterval = 5 * time.Second

// Registry holds the living pools by their keys.
type Registry struct {
	mu    sync.Mutex
	pools map[plan.PoolKey]*Pool
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{pools: make(map[plan.PoolKey]*Pool)}
}

// Prepare makes sure that every pool of the plan lives and has its members. It
// retires nothing: the table in use may still send to pools that the plan has
// no longer.
func (r *Registry) Prepare(pools []plan.Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, want := range pools {
		p := r.pools[want.Key]
		if p == nil {
			p = newPool(want.Key)
			r.pools[want.Key] = p
		}
		p.update(want.Endpoints)
	}
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
	keep := make(map[plan.PoolKey]bool, len(pools))
	for _, p := range pools {
		keep[p.Key] = true
	}
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
}

// Run closes connections that were idle too long, until ctx ends; then it closes
// all that are idle.
func (r *Registry) Run(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, p := range r.Pools() {
				p.retire()
			}
			return
		case now := <-tick.C:
			for _, p := range r.Pools() {
				for _, e := range p.Endpoints() {
					e.sweep(now)
				}
			}
		}
	}
}
