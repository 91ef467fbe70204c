package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// PoolHealth counts the endpoints of a living pool by what is known of them; ok
// is false when no pool has the key.
func (e *Engine) PoolHealth(key plan.PoolKey) (h plan.PoolHealth, ok bool) {
	p := e.registry.Pool(key)
	if p == nil {
		return h, false
	}
	return p.Health(), true
}

// newRegistry makes the registry tell of what happens to endpoints.
func (e *Engine) newRegistry() *upstream.Registry {
	r := upstream.NewRegistry()
	r.OnTransition = e.transition
	r.OnPanic = e.panicked
	if e.config.Dial != nil {
		r.Dial = checkDial(e.config.Dial)
	}
	return r
}

// checkDial lets checks connect as requests do.
func checkDial(dial proxy.Dial) upstream.Dial {
	return func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		timeout := time.Duration(0)
		if at, ok := ctx.Deadline(); ok {
			timeout = max(time.Until(at), time.Millisecond)
		}
		return dial(addr, timeout)
	}
}

// transition logs what has become of an endpoint and passes it on.
func (e *Engine) transition(t plan.Transition) {
	e.config.Log.Info("endpoint is "+t.To, "pool", poolName(t.Pool), "endpoint", t.Endpoint.String(), "from", t.From, "to", t.To, "why", t.Why)
	if e.config.OnTransition != nil {
		e.config.OnTransition(t)
	}
}

func (e *Engine) panicked(key plan.PoolKey, h plan.PoolHealth) {
	msg := "enough endpoints are healthy again: only they are used"
	if h.Panic {
		msg = "too few endpoints are healthy: all that are ready are used"
	}
	e.config.Log.Info(msg, "pool", poolName(key), "panic", h.Panic, "serving", h.Ready, "ejected", h.Ejected, "unhealthy", h.Unhealthy)
}

func poolName(k plan.PoolKey) string { return fmt.Sprintf("%s/%s:%d", k.Namespace, k.Service, k.Port) }

// checked returns nil once the pools of the first table have had the first
// results of their checks or their time for it, and, if that is asked for, each
// pool with checks has had an endpoint that passes. Then it stays so.
func (e *Engine) checked() error {
	if e.warm.Load() {
		return nil
	}
	if p := e.registry.Warm(time.Now()); p != nil {
		return fmt.Errorf("the endpoints of %s have not all been checked yet", poolName(p.Key))
	}
	if e.config.RequireHealthyPools {
		if p := e.registry.Failing(); p != nil {
			return fmt.Errorf("no endpoint of %s passes its checks", poolName(p.Key))
		}
	}
	e.warm.Store(true)
	return nil
}

// upstreamStats sums up what the pools tell, by Service port.
func (e *Engine) upstreamStats() []telemetry.UpstreamStats {
	type service struct {
		namespace, name string
		port            uint16
	}
	at := make(map[service]int)
	var all []telemetry.UpstreamStats
	for _, p := range e.registry.Pools() {
		k := service{p.Key.Namespace, p.Key.Service, p.Key.Port}
		i, ok := at[k]
		if !ok {
			i = len(all)
			at[k] = i
			all = append(all, serviceStats(p))
		}
		for state, n := range p.States() {
			all[i].Endpoints[state] += n
		}
		all[i].Panic = all[i].Panic || p.Panic()
		if b := p.Breaker; b != nil {
			all[i].Bounded = true
			all[i].Parallel += uint64(b.Inside())
			all[i].ParallelLimit += uint64(b.Limit())
			all[i].Pending += uint64(b.Waiting())
		}
	}
	return all
}

// serviceStats are the counters that all pools of a Service port share.
func serviceStats(p *upstream.Pool) telemetry.UpstreamStats {
	t := p.Tally()
	s := telemetry.UpstreamStats{
		Namespace: p.Key.Namespace, Service: p.Key.Service, Port: p.Key.Port, Endpoints: make(map[string]int),
		Ejections: t.Ejections.Load(), SkippedEjections: t.Skipped.Load(),
		Overflows: t.Overflows.Load(), QueueTimeouts: t.QueueTimeouts.Load(),
		GoodProbes: t.ProbesGood.Load(), BadProbes: t.ProbesBad.Load(),
	}
	t.Transitions(func(from, to string, n uint64) {
		s.Transitions = append(s.Transitions, telemetry.TransitionCount{From: from, To: to, Count: n})
	})
	return s
}
