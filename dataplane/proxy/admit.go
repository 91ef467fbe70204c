package proxy

import (
	"errors"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// admit holds the request against the limits of its rule, the cheapest ones
// first.
func (ex *exchange) admit() Reason {
	ex.countBegin()
	if most := ex.c.settings.buffers; most > 0 && http1.HeldBytes() > most {
		return ReasonOverloaded
	}
	r := ex.rule
	if r.invalid != "" {
		ex.detail = r.invalid
		return ReasonRuleInvalid
	}
	if limit := r.limits.MaxRequestBodyBytes; limit > 0 {
		if ex.req.ContentLength > limit {
			return ReasonRequestBodyTooLarge
		}
		ex.reqBody.Limit(limit)
	}
	if len(r.rates) > 0 {
		if reason := ex.limitRate(); reason != ReasonOK {
			return reason
		}
	}
	if r.inFlight != nil {
		if !r.inFlight.Acquire(r.limits.MaxInFlight) {
			return ReasonTooManyInFlight
		}
		ex.inRule = r.inFlight
	}
	return ReasonOK
}

// depart ends what the request counts as. It is called once, at its end.
func (ex *exchange) depart() {
	if ex.inRule != nil {
		ex.inRule.Release()
		ex.inRule = nil
	}
	ex.leavePool()
}

func (ex *exchange) leavePool() {
	if ex.inPool != nil {
		ex.inPool.Leave()
		ex.inPool = nil
	}
}

// enterPool takes a place in the pool of a leg, and waits for one if need be. A
// request keeps its place, whatever it tries there, until it goes to another pool
// or ends.
func (ex *exchange) enterPool(l *leg) Reason {
	b := l.pool.Breaker
	if ex.inPool == b {
		return ReasonOK
	}
	ex.leavePool()
	if b == nil || b.TryEnter() {
		ex.inPool = b
		return ReasonOK
	}
	until, late := ex.sooner(ex.deadline, ReasonRequestTimeout)
	admission := b.Enter(ex.now, until, func() bool { return !ex.clientLeft() })
	ex.now = time.Now()
	switch admission {
	case limit.Admitted:
		ex.inPool = b
		return ReasonOK
	case limit.Full:
		l.pool.Tally().Overflows.Add(1)
		return ReasonUpstreamOverflow
	case limit.Aged:
		l.pool.Tally().QueueTimeouts.Add(1)
		return ReasonUpstreamQueueTimeout
	case limit.Late:
		return late
	case limit.Gone:
	}
	return ReasonClientGone
}

// overflowed is for a request that has found no place at any endpoint, or no
// connection, although it is inside.
func (ex *exchange) overflowed() Reason {
	ex.leg.pool.Tally().Overflows.Add(1)
	return ReasonUpstreamOverflow
}

// observe tells the pool how long an endpoint took to answer, or was waited for.
// A failure that it is quick to answer with says nothing of how much it can do.
func (ex *exchange) observe(latency time.Duration) {
	if ex.inPool != nil && latency > 0 && (!ex.headed || ex.res.Status < 500 && ex.res.Status != 429) {
		ex.inPool.Observe(ex.now.Add(-latency), ex.now)
	}
}

// errTooManyConnections: the pool has as many connections as it may have.
var errTooManyConnections = errors.New("proxy: too many connections to the pool")

// dialUp makes a connection to the endpoint.
func (ex *exchange) dialUp(timeout time.Duration) (*http1.Conn, error) {
	b := ex.leg.pool.Breaker
	if b != nil && !ex.leg.pool.Connect() {
		return nil, errTooManyConnections
	}
	nc, err := ex.p.dial(ex.turn.Endpoint.Addr, timeout)
	if upstream.IsShortage(err) && ex.leg.pool.CloseIdle() {
		nc, err = ex.p.dial(ex.turn.Endpoint.Addr, timeout)
	}
	if err != nil {
		if b != nil {
			b.Connections.Release()
		}
		return nil, err
	}
	c := http1.NewConn(nc, ex.p.settings.Load().clients.WriteTimeout) // a lane has no client
	if b != nil {
		c.OnClose(b.Connections.Release)
	}
	return c, nil
}

// kept is what the limits of rules count. It is carried over from table to table
// by what the limits belong to, so that a swap starts no count anew.
type kept struct {
	inFlight map[RuleID]*limit.InFlight
	buckets  map[bucketsOf]*buckets
}

// limitRule gives a compiled rule what its limits count: what prev has of it,
// else something new. prev may be nil.
func (c *rule) limitRule(prev *Table) {
	if c.limits.MaxInFlight == 0 {
		return
	}
	if prev != nil {
		c.inFlight = prev.kept.inFlight[c.id]
	}
	if c.inFlight == nil {
		c.inFlight = new(limit.InFlight)
	}
}

// retire ends what next has not taken over.
func (k *kept) retire(next *kept) {
	for of, b := range k.buckets {
		if next.buckets[of] != b {
			b.retire()
		}
	}
}

// keep takes note of what a rule's limits count, for the next table.
func (k *kept) keep(c *rule) {
	if c.inFlight != nil {
		if k.inFlight == nil {
			k.inFlight = make(map[RuleID]*limit.InFlight)
		}
		k.inFlight[c.id] = c.inFlight
	}
	for i := range c.rates {
		if k.buckets == nil {
			k.buckets = make(map[bucketsOf]*buckets)
		}
		k.buckets[c.rateKeys[i]] = c.rates[i].buckets
	}
}
