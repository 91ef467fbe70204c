package upstream

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// roster is the members of a pool. It changes only with the plan.
type roster struct {
	all   []*Endpoint // in the order of the plan
	index map[netip.AddrPort]int
	ring  *ring // of ConsistentHash, else nil
}

// members is who takes requests. It is immutable; a new one is published
// whenever something changes.
type members struct {
	*roster
	open []*Endpoint // those that take new requests
	fit  []fitness   // of each of all
	base plan.EndpointState
	// panic: too few are sound, so all that Kubernetes calls ready are open.
	panic bool
	// nextTrial is when the next ejection is over, and rampUntil when the last
	// slow start of an open endpoint is, both as Pool.since.
	nextTrial, rampUntil int64
}

// fitness says which requests an endpoint takes.
type fitness uint8

const (
	// fitNew: new ones.
	fitNew fitness = 1 << iota
	// fitSession: those of the sessions that it has. One that drains does, too.
	fitSession
)

const never = math.MaxInt64

// publish decides who takes requests; p.mu is held. It reports whether the pool
// has come into panic or out of it.
//
//  1. What Kubernetes calls ready; when that is nothing, what drains: it still
//     serves, and nothing else does (KEP-1669).
//  2. Of these, the sound ones; when they are fewer than the panic threshold,
//     all, because so many failures are rather a sign of a bad check.
//  3. Of these, the close ones if any is; else all. In panic, all.
func (p *Pool) publish(r *roster) (panicChanged bool) {
	next := &members{roster: r, fit: make([]fitness, len(r.all)), nextTrial: never, base: plan.Draining}
	for _, e := range r.all {
		if e.State() == plan.Ready {
			next.base = plan.Ready
			break
		}
	}
	n, sound, closeBy := 0, 0, 0
	for _, e := range r.all {
		if e.State() != next.base {
			continue
		}
		n++
		if e.health.sound() {
			sound++
			if !e.far.Load() {
				closeBy++
			}
		} else if e.health.phase != serving && !e.health.failing {
			next.nextTrial = min(next.nextTrial, p.since(e.health.until))
		}
	}
	policy := &p.Key.Policy
	next.panic = sound*100 < n*int(policy.PanicThresholdPercent)
	onlyClose := policy.LoadBalancing.PreferClose && closeBy > 0 && !next.panic
	for i, e := range r.all {
		usable := next.panic || e.health.sound()
		if usable && e.State() != plan.NotReady {
			next.fit[i] |= fitSession
		}
		if !usable || e.State() != next.base || onlyClose && e.far.Load() {
			continue
		}
		next.fit[i] |= fitNew
		next.open = append(next.open, e)
		next.rampUntil = max(next.rampUntil, e.rampEnd.Load())
	}
	if policy.LoadBalancing.Balancer == plan.FirstHealthy {
		slices.SortFunc(next.open, func(a, b *Endpoint) int { return a.Addr.Compare(b.Addr) })
	}
	old := p.members.Swap(next)
	p.keepTurn(old.open, next.open)
	if p.Breaker != nil {
		p.Breaker.SetEndpoints(len(next.open))
	}
	return old.panic != next.panic
}

// ramp begins the slow start of an endpoint.
func (p *Pool) ramp(e *Endpoint, now time.Time) {
	if w := p.Key.Policy.LoadBalancing.SlowStart; w > 0 {
		e.rampEnd.Store(p.since(now) + int64(w))
	}
}

// weightOne is the weight of an endpoint that takes its full share.
const weightOne = 1 << 16

// weight is the share of an endpoint that others of weightOne stand beside. In
// its slow start it grows from the least share to the full one with time.
func (p *Pool) weight(e *Endpoint, t int64) uint64 {
	left := e.rampEnd.Load() - t
	if left <= 0 {
		return weightOne
	}
	b := &p.Key.Policy.LoadBalancing
	w := (1 - float64(left)/float64(b.SlowStart)) * weightOne
	return uint64(max(w, float64(max(b.SlowStartMinPercent, 1))*weightOne/100))
}
