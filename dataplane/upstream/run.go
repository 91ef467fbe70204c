package upstream

import (
	"context"
	"sync"
	"time"
)

// sweepInterval is how often idle connections are looked over.
const sweepInterval = 5 * time.Second

// runner is what runs beside requests.
type runner struct {
	mu      sync.Mutex
	ctx     context.Context // nil: Run has not begun
	ended   bool
	probers sync.WaitGroup
}

// Run checks endpoints and closes connections that were idle too long, until ctx
// ends; then it waits for the checks to end, and closes all connections that are
// idle. It is called once.
func (r *Registry) Run(ctx context.Context) {
	r.run.mu.Lock()
	r.run.ctx = ctx
	for _, p := range r.Pools() {
		p.startProbing(ctx, r.dial(), &r.run.probers)
	}
	r.run.mu.Unlock()

	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.run.end()
			for _, p := range r.Pools() {
				p.retire()
			}
			return
		case now := <-tick.C:
			for _, p := range r.Pools() {
				for _, e := range p.Endpoints() {
					e.idle.sweep(now)
				}
			}
		}
	}
}

// end lets no check begin any more and waits for the last one.
func (u *runner) end() {
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	u.probers.Wait()
}

// startProbing begins the checks of a new pool, unless Run has not begun, which
// does it then, or has ended.
func (r *Registry) startProbing(p *Pool) {
	r.run.mu.Lock()
	defer r.run.mu.Unlock()
	if r.run.ctx != nil && !r.run.ended {
		p.startProbing(r.run.ctx, r.dial(), &r.run.probers)
	}
}

func (r *Registry) dial() Dial {
	if r.Dial != nil {
		return r.Dial
	}
	return dialTCP
}
