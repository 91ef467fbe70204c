package server

import (
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// Connection states.
//
//	new ─→ busy ⇄ idle     as requests begin and end
//	        │              busy ─→ upgraded, for good
//	        ├─→ cut        busy or upgraded when its time was up
//	        └─→ ending     busy or upgraded, and over
//	new, idle ─→ closed    when the drain wants no more requests
const (
	connNew      int32 = iota // waits for its first request
	connIdle                  // waits for another one
	connBusy                  // has one
	connUpgraded              // is a tunnel
	connCut                   // cut while it was busy or a tunnel
	connClosed                // closed while it was idle
	connEnding                // its last request was answered; it ends by itself, and soon
)

// conn is the proxy.Life of a connection, and its place in the server's list.
type conn struct {
	nc    net.Conn
	s     *Server
	peer  proxy.Peer
	state atomic.Int32
	end   func() // of the tunnel; set before the state becomes connUpgraded

	prev, next *conn // guarded by the server's mu
}

// Peer implements proxy.Life.
func (c *conn) Peer() proxy.Peer { return c.peer }

// Idle implements proxy.Life. A connection that was taken in gets to send its
// first request, however late in the drain that is.
func (c *conn) Idle() bool {
	if c.state.Load() == connNew {
		return true
	}
	if !c.state.CompareAndSwap(connBusy, connIdle) && c.state.Load() != connIdle {
		return false
	}
	// After the store: closeIdle either sees the connection idle or happened
	// before, and then closing is seen here.
	return !c.s.closing.Load()
}

// Busy implements proxy.Life.
func (c *conn) Busy() bool {
	return c.state.CompareAndSwap(connIdle, connBusy) || c.state.CompareAndSwap(connNew, connBusy)
}

// Draining implements proxy.Life.
func (c *conn) Draining() bool { return c.s.draining.Load() }

// Cut implements proxy.Life.
func (c *conn) Cut() bool { return c.state.Load() == connCut }

// Upgraded implements proxy.Life.
func (c *conn) Upgraded(end func()) {
	c.end = end
	if !c.state.CompareAndSwap(connBusy, connUpgraded) {
		end() // it was cut meanwhile
		return
	}
	// After the store: endUpgraded either sees the tunnel or happened before.
	if c.s.upgradedOver.Load() {
		c.endTunnel()
	}
}

// Ending implements proxy.Life. There is nothing left that could be cut.
func (c *conn) Ending() {
	if !c.state.CompareAndSwap(connBusy, connEnding) {
		c.state.CompareAndSwap(connUpgraded, connEnding)
	}
}

// endTunnel asks the tunnel to end, if there is one.
func (c *conn) endTunnel() {
	if c.state.CompareAndSwap(connUpgraded, connCut) {
		c.s.cutUpgraded.Add(1)
		c.end()
	}
}

// cutRequest closes the connection under its request, if it has one.
func (c *conn) cutRequest() {
	if c.state.CompareAndSwap(connBusy, connCut) {
		c.s.cutRequests.Add(1)
		go c.nc.Close() // which may have to wait for the request to notice
	}
}

// closeIf closes the connection if it is in the state, in which nobody uses it.
func (c *conn) closeIf(state int32) {
	if c.state.CompareAndSwap(state, connClosed) {
		_ = c.nc.Close() // there is nothing to be lost
	}
}

// remote returns the address of the peer, IPv4 as such and without a zone; it
// is invalid where the network has other addresses.
func remote(nc net.Conn) netip.AddrPort {
	if c, ok := nc.(interface{ Peer() netip.AddrPort }); ok {
		return c.Peer() // which allocates nothing
	}
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	case nil:
		return netip.AddrPort{}
	default:
		ap, _ := netip.ParseAddrPort(a.String()) // else it stays unknown
		return ap
	}
}
