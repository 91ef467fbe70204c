package upstream

import (
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// View is what is known of an endpoint.
type View struct {
	// State is "serving", "ejected", "probing", "unhealthy", or what Kubernetes
	// says when that is not ready: "draining" or "not-ready".
	State string
	// Since is when it came into what is known of its health, and Why what
	// brought it there; "" when nothing has happened yet.
	Since time.Time
	Why   string
	// Until is when the time of an ejected endpoint is up; zero for others.
	Until time.Time
	// Share is the part of an even share in percent that it gets: less than 100
	// in its slow start.
	Share int
}

// View returns what is known of an endpoint of the pool.
func (p *Pool) View(e *Endpoint, now time.Time) View {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &e.health
	v := View{State: e.word(), Since: h.since, Why: h.why, Share: int((p.weight(e, p.since(now))*100 + weightOne/2) / weightOne)}
	if v.State == wordEjected {
		v.Until = h.until
	}
	return v
}

// word is the one word for the endpoint; pool.mu is held.
func (e *Endpoint) word() string {
	if s := e.State(); s != plan.Ready {
		return s.String()
	}
	return e.health.word()
}

// Health counts the endpoints by what is known of them.
func (p *Pool) Health() plan.PoolHealth {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count()
}

func (p *Pool) count() (n plan.PoolHealth) {
	m := p.members.Load()
	n.Panic = m.panic
	for _, e := range m.all {
		switch e.word() {
		case wordServing:
			n.Ready++
		case wordUnhealthy:
			n.Unhealthy++
		case wordEjected, wordProbing:
			n.Ejected++
		case plan.Draining.String():
			n.Draining++
		}
	}
	return n
}

// Far reports whether topology hints give the endpoint to others.
func (e *Endpoint) Far() bool { return e.far.Load() }

// Panic reports whether the pool sends to all that Kubernetes calls ready.
func (p *Pool) Panic() bool { return p.members.Load().panic }

// States counts the endpoints by View.State.
func (p *Pool) States() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := map[string]int{wordServing: 0}
	for _, e := range p.members.Load().all {
		n[e.word()]++
	}
	return n
}

// Tally counts what has happened to the endpoints of a Service port, in all of
// its pools; it ends with the last of them.
type Tally struct {
	// Ejections by failed requests; Skipped ones that were called for and not
	// allowed, as too many were ejected already or nothing else was left.
	Ejections, Skipped atomic.Uint64
	// ProbesGood and ProbesBad are active checks.
	ProbesGood, ProbesBad atomic.Uint64
	// Overflows are requests that found the queue before the pool full, or no
	// connection or endpoint for them; QueueTimeouts those that waited there for
	// too long.
	Overflows, QueueTimeouts atomic.Uint64

	pools       int // that count here; guarded by Registry.mu
	transitions [len(words)][len(words)]atomic.Uint64
}

var words = [...]string{wordServing, wordEjected, wordProbing, wordUnhealthy}

func (t *Tally) count(from, to string) {
	for i, f := range words {
		for j, g := range words {
			if f == from && g == to {
				t.transitions[i][j].Add(1)
			}
		}
	}
}

// Transitions calls f for each change of state that has occurred, with how often.
func (t *Tally) Transitions(f func(from, to string, n uint64)) {
	for i := range t.transitions {
		for j := range t.transitions[i] {
			if n := t.transitions[i][j].Load(); n > 0 {
				f(words[i], words[j], n)
			}
		}
	}
}

// Tally returns the counters of the pool's Service port.
func (p *Pool) Tally() *Tally { return p.tally }
