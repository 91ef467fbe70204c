package server

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxyproto"
)

// headers lends the memory that PROXY headers are read into.
var headers = sync.Pool{New: func() any { return new([proxyproto.MaxSize]byte) }}

// readHeader reads the PROXY header that the connection begins with, and
// nothing of what follows it, and takes the client's address from it. False
// means that the connection is over.
//
// The header and the first request's head share the time that a head has. No
// byte at all before the peer closes is how load balancers look whether a port
// is open: that is nobody's fault.
func (s *Server) readHeader(c *conn, timeout time.Duration) bool {
	buf := headers.Get().(*[proxyproto.MaxSize]byte)
	defer headers.Put(buf)
	if err := c.nc.SetReadDeadline(c.peer.Since.Add(timeout)); err != nil {
		_ = c.nc.Close() // it is closed already
		return false
	}
	read := 0
	for {
		h, _, more, err := proxyproto.Parse(buf[:read])
		if err != nil {
			s.turnAway(c, BadHeader)
			return false
		}
		if more == 0 {
			if h.Source.IsValid() {
				c.peer.Addr = h.Source
			}
			return true
		}
		n, err := c.nc.Read(buf[read : read+more])
		if read += n; n > 0 || err == nil {
			continue
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.turnAway(c, LateHeader)
		case read > 0 && !errors.Is(err, net.ErrClosed):
			s.turnAway(c, BadHeader)
		default:
			_ = c.nc.Close() // nobody is there any more
		}
		return false
	}
}
