package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// maxIdle bounds the connections that an endpoint keeps for reuse.
	maxIdle = 256
	// idleTimeout is how long a connection is kept unused. It is below the 60 s
	// that most servers wait before they close.
	idleTimeout = 55 * time.Second
	// hintMargin is how much earlier than the endpoint we give a connection up.
	hintMargin = time.Second
)

// Endpoint is one address of a pool. It lives as long as its pool has the
// address.
type Endpoint struct {
	Addr netip.AddrPort

	state    atomic.Uint32 // plan.EndpointState
	inFlight atomic.Int64

	mu      sync.Mutex
	idle    []idleConn // the last one was used last
	retired bool       // no longer a member: nothing is kept
}

// idleConn is a connection that waits to be used again.
type idleConn struct {
	conn  *http1.Conn
	until time.Time
}

func newEndpoint(e plan.Endpoint) *Endpoint {
	ep := &Endpoint{Addr: e.Addr}
	ep.state.Store(uint32(e.State))
	return ep
}

// State is what Kubernetes says of the endpoint.
func (e *Endpoint) State() plan.EndpointState { return plan.EndpointState(e.state.Load()) }

// InFlight is the number of requests that the endpoint has and that have not
// ended.
func (e *Endpoint) InFlight() int64 { return e.inFlight.Load() }

// Release ends a request that Pool.Take gave to the endpoint.
func (e *Endpoint) Release() { e.inFlight.Add(-1) }

// IdleConn returns a connection that is kept for reuse and was used last, or
// nil. It may have been closed by the endpoint meanwhile.
func (e *Endpoint) IdleConn(now time.Time) *http1.Conn {
	for {
		c, until := e.popIdle()
		if c == nil {
			return nil
		}
		if now.Before(until) {
			return c
		}
		_ = c.Close() // it is unused and unwanted: how it closes does not matter
	}
}

func (e *Endpoint) popIdle() (*http1.Conn, time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.idle)
	if n == 0 {
		return nil, time.Time{}
	}
	last := e.idle[n-1]
	e.idle[n-1] = idleConn{}
	e.idle = e.idle[:n-1]
	return last.conn, last.until
}

// Keep keeps a connection for reuse, or closes it when the endpoint is retired
// or has enough. The connection must be in a state to take a new request. hint
// is how long the endpoint says that it keeps an idle connection (RFC 9112, 9.3,
// and its Keep-Alive field); 0: it does not say.
func (e *Endpoint) Keep(c *http1.Conn, now time.Time, hint time.Duration) {
	keepFor := idleTimeout
	if hint > 0 {
		keepFor = min(keepFor, hint-hintMargin)
	}
	e.mu.Lock()
	keep := !e.retired && len(e.idle) < maxIdle && keepFor > 0
	if keep {
		e.idle = append(e.idle, idleConn{c, now.Add(keepFor)})
	}
	e.mu.Unlock()
	if !keep {
		_ = c.Close()
	}
}

// Idle is the number of connections kept for reuse.
func (e *Endpoint) Idle() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.idle)
}

// retire closes what is idle and lets nothing be kept any more.
func (e *Endpoint) retire() {
	e.mu.Lock()
	e.retired = true
	idle := e.idle
	e.idle = nil
	e.mu.Unlock()
	closeAll(idle)
}

// sweep closes the connections that were idle too long or that the endpoint has
// closed.
func (e *Endpoint) sweep(now time.Time) {
	e.mu.Lock()
	var gone []idleConn
	kept := e.idle[:0]
	for _, ic := range e.idle {
		if now.Before(ic.until) && ic.conn.Alive() {
			kept = append(kept, ic)
		} else {
			gone = append(gone, ic)
		}
	}
	clear(e.idle[len(kept):])
	e.idle = kept
	e.mu.Unlock()
	closeAll(gone)
}

func closeAll(conns []idleConn) {
	for _, ic := range conns {
		_ = ic.conn.Close() // unused: how it closes does not matter
	}
}
