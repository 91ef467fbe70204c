package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// hintMargin is how much earlier than the endpoint we give a connection up.
const hintMargin = time.Second

// idleConns are the connections of an endpoint that are kept for reuse.
type idleConns struct {
	mu      sync.Mutex
	conns   []idleConn // the last one was used last
	retired bool       // the endpoint is no longer a member: nothing is kept
}

// idleConn is a connection that waits to be used again.
type idleConn struct {
	conn  *http1.Conn
	made  time.Time
	until time.Time // zero: for as long as it lives
}

func (c *idleConn) fresh(now time.Time) bool { return c.until.IsZero() || now.Before(c.until) }

// IdleConn returns the kept connection that was used last and when it was made,
// or nil. It may have been closed by the endpoint meanwhile.
func (e *Endpoint) IdleConn(now time.Time) (c *http1.Conn, made time.Time) {
	for {
		last, ok := e.idle.pop()
		if !ok {
			return nil, time.Time{}
		}
		if last.fresh(now) {
			return last.conn, last.made
		}
		_ = last.conn.Close() // it is unused and unwanted: how it closes does not matter
	}
}

func (i *idleConns) pop() (last idleConn, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.conns)
	if n == 0 {
		return idleConn{}, false
	}
	last = i.conns[n-1]
	i.conns[n-1] = idleConn{}
	i.conns = i.conns[:n-1]
	return last, true
}

// shift takes out the connection that has not been used for the longest.
func (i *idleConns) shift() (first idleConn, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.conns) == 0 {
		return idleConn{}, false
	}
	first = i.conns[0]
	i.conns = slices.Delete(i.conns, 0, 1)
	return first, true
}

// Keep keeps a connection for reuse, or closes it when the endpoint is retired,
// or has as many as its policy allows, or the connection is too old. It must be
// in a state to take a new request; made is when it was established. hint is how
// long the endpoint says that it keeps an idle connection (RFC 9112, 9.3, and
// its Keep-Alive field); 0: it does not say.
func (e *Endpoint) Keep(c *http1.Conn, made, now time.Time, hint time.Duration) {
	policy := &e.pool.Key.Policy.Connection
	until := keepUntil(policy, made, now, hint)
	i := &e.idle
	i.mu.Lock()
	keep := !i.retired && len(i.conns) < int(policy.MaxIdlePerEndpoint) && (until.IsZero() || now.Before(until))
	if keep {
		i.conns = append(i.conns, idleConn{c, made, until})
	}
	i.mu.Unlock()
	if !keep {
		_ = c.Close()
	}
}

// keepUntil is the earliest of the policy's limits and the endpoint's hint; zero
// when there is none.
func keepUntil(policy *plan.Connection, made, now time.Time, hint time.Duration) time.Time {
	var until time.Time
	earliest := func(t time.Time) {
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if policy.IdleTimeout > 0 {
		earliest(now.Add(policy.IdleTimeout))
	}
	if hint > 0 {
		earliest(now.Add(hint - hintMargin))
	}
	if policy.MaxAge > 0 {
		earliest(made.Add(policy.MaxAge))
	}
	return until
}

// Idle is the number of connections kept for reuse.
func (e *Endpoint) Idle() int {
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	return len(e.idle.conns)
}

// retire closes what is idle and lets nothing be kept any more.
func (i *idleConns) retire() {
	i.mu.Lock()
	i.retired = true
	conns := i.conns
	i.conns = nil
	uncount(conns)
	i.mu.Unlock()
	closeAll(conns)
}

// sweep closes the connections that were idle too long or that the endpoint has
// closed.
func (i *idleConns) sweep(now time.Time) {
	i.mu.Lock()
	var gone []idleConn
	kept := i.conns[:0]
	for _, ic := range i.conns {
		if ic.fresh(now) && ic.conn.Alive() {
			kept = append(kept, ic)
		} else {
			gone = append(gone, ic)
		}
	}
	clear(i.conns[len(kept):])
	i.conns = kept
	uncount(gone)
	i.mu.Unlock()
	closeAll(gone)
}

// uncount lets connections that are about to be closed count no more; the list
// that they were in is locked. So each connection that counts is in a list, or in
// the hands of a request.
func uncount(conns []idleConn) {
	for _, ic := range conns {
		ic.conn.Uncount()
	}
}

func closeAll(conns []idleConn) {
	for _, ic := range conns {
		_ = ic.conn.Close() // unused: how it closes does not matter
	}
}
