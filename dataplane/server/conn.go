package server

import (
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// Connection states.
const (
	connIdle   int32 = iota // waits for a request
	connBusy                // has one
	connCut                 // closed while it was busy
	connClosed              // closed while it was idle
)

// conn is the proxy.Life of a connection, and its place in the server's list.
type conn struct {
	nc    net.Conn
	s     *Server
	peer  proxy.Peer
	state atomic.Int32

	prev, next *conn // guarded by the server's mu
}

// Peer implements proxy.Life.
func (c *conn) Peer() proxy.Peer { return c.peer }

// Idle implements proxy.Life.
func (c *conn) Idle() bool {
	if !c.state.CompareAndSwap(connBusy, connIdle) && c.state.Load() != connIdle {
		return false
	}
	// After the store: closeIdle either sees the connection idle or happened
	// before, and then closing is seen here.
	return !c.s.closing.Load()
}

// Busy implements proxy.Life.
func (c *conn) Busy() bool { return c.state.CompareAndSwap(connIdle, connBusy) }

// Draining implements proxy.Life.
func (c *conn) Draining() bool { return c.s.draining.Load() }

// Cut implements proxy.Life.
func (c *conn) Cut() bool { return c.state.Load() == connCut }

func (c *conn) closeIfIdle() {
	if c.state.CompareAndSwap(connIdle, connClosed) {
		_ = c.nc.Close() // nobody is using it
	}
}

// remote returns the address of the peer, IPv4 as such and without a zone; it
// is invalid where the network has other addresses.
func remote(nc net.Conn) netip.AddrPort {
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
