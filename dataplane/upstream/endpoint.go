package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Endpoint is one address of a pool. It lives as long as its pool has the
// address.
type Endpoint struct {
	Addr netip.AddrPort

	pool *Pool
	// load is shared with one of the same address that its pool had before, and with
	// that in the pool that this one's took over from, whose requests are still in
	// flight; not when one of the pools compares it with what it has in flight itself.
	load *load
	salt uint64 // a hash of the address

	state atomic.Uint32 // plan.EndpointState
	far   atomic.Bool

	// What requests report, see judge.go. An outcome counts only while the
	// epoch is the one in which its request was picked.
	epoch   atomic.Uint32
	fails   atomic.Uint32 // in a row
	recent  *window       // nil: nothing is counted
	silence silence

	// rampEnd is when the slow start ends, as Pool.since; 0: there is none.
	rampEnd atomic.Int64

	health health // guarded by pool.mu
	probe  probe  // guarded by pool.mu
	gone   bool   // guarded by pool.mu: no longer a member

	idle idleConns
	// upgraded is shared with the endpoints of the same address whose pools this
	// one's took over from, and with one that its pool had before.
	upgraded *upgraded
}

// load is what an endpoint has to do, and how fast it is.
type load struct {
	inFlight atomic.Int64
	latency  ewma
}

func newEndpoint(p *Pool, want plan.Endpoint) *Endpoint {
	e := &Endpoint{Addr: want.Addr, pool: p, load: new(load), upgraded: new(upgraded), salt: hashAddr(want.Addr)}
	e.upgraded.join()
	e.adopt(want)
	if p.Key.Policy.Passive.FailurePercent > 0 {
		e.recent = newWindow(p.Key.Policy.Passive.FailureWindow)
	}
	return e
}

// adopt takes over what the plan says of the endpoint.
func (e *Endpoint) adopt(want plan.Endpoint) {
	e.state.Store(uint32(want.State))
	e.far.Store(want.Far)
	e.settle()
}

// settle tells the upgraded connections what Kubernetes says of the endpoint.
// That it is not ready means nothing for them.
func (e *Endpoint) settle() {
	switch e.State() {
	case plan.Ready:
		e.upgraded.stay()
	case plan.Draining:
		e.upgraded.leave(e.pool.Key.Policy.DrainTimeout)
	case plan.NotReady:
	}
}

// share makes the upgraded connections of another endpoint of the address this one's,
// too.
func (e *Endpoint) share(u *upgraded) {
	e.upgraded = u
	u.join()
	e.settle()
}

func (e *Endpoint) is(want plan.Endpoint) bool {
	return e.Addr == want.Addr && e.State() == want.State && e.far.Load() == want.Far
}

// State is what Kubernetes says of the endpoint.
func (e *Endpoint) State() plan.EndpointState { return plan.EndpointState(e.state.Load()) }

// InFlight is the number of requests that the endpoint has and that have not
// ended.
func (e *Endpoint) InFlight() int64 { return e.load.inFlight.Load() }

// inherit takes over what an endpoint of the same address knows, in a pool of
// the same Service port under another policy; its pool's mutex is held. What
// the new policy does not judge is not taken over: nothing would ever end it.
func (e *Endpoint) inherit(old *Endpoint, now time.Time) {
	if !e.pool.hashed && !old.pool.hashed { // a bound is of what its own pool has
		e.load = old.load
	}
	e.share(old.upgraded)
	e.rampEnd.Store(min(old.rampEnd.Load(), e.pool.since(now)+int64(e.pool.Key.Policy.LoadBalancing.SlowStart)))
	e.health = old.health
	if !e.pool.Key.Policy.Passive.On() {
		e.health.forgive()
	}
	if e.health.phase == probing {
		e.health.phase, e.health.until = ejected, now // its trial reports to the old one
	}
	if e.pool.Key.Policy.Active.Type == plan.CheckNone {
		e.health.failing = false
	}
}
