package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// Handler serves one connection until it ends, and closes it.
type Handler interface {
	ServeConn(nc net.Conn, life proxy.Life)
}

// Config of a Server. The zero value limits nothing and trusts nobody.
type Config struct {
	// MaxConnections bounds the connections that are open at the same time; 0
	// is no bound.
	MaxConnections int
	// MaxConnectionsPerIP bounds those of one client address, which is the one
	// that the PROXY header names if there is one; 0 is no bound.
	MaxConnectionsPerIP int
	// PerIPExempt are the clients that MaxConnectionsPerIP is not for: proxies,
	// whose connections carry the requests of many.
	PerIPExempt proxy.Prefixes
	// ProxyProtocol are the peers whose connections begin with a PROXY header,
	// version 1 or 2. Theirs must, those of all others must not.
	ProxyProtocol proxy.Prefixes
	// HeaderTimeout bounds the reading of a PROXY header from the start of the
	// connection; not 0 when there are such peers.
	HeaderTimeout time.Duration
	// Log receives what goes wrong; the zero value discards it.
	Log logr.Logger
}

// Stats are counters of a server's connections, to be read at any time.
type Stats struct {
	Accepted     atomic.Int64                // connections accepted and not turned away at once
	AcceptErrors atomic.Int64                // failures to accept
	Open         atomic.Int64                // connections that are open
	Refused      [len(Refusals)]atomic.Int64 // connections turned away, by Refusal
}

// Server accepts connections and gives each to a Handler.
type Server struct {
	Stats Stats

	handler Handler
	log     logr.Logger
	config  atomic.Pointer[Config]
	perIP   atomic.Pointer[addressCount] // nil: no limit
	refuser refuser

	draining atomic.Bool
	closing  atomic.Bool // idle connections are not wanted any more
	// upgradedOver: the time of tunnels is up.
	upgradedOver             atomic.Bool
	cutRequests, cutUpgraded atomic.Int64

	accepting sync.WaitGroup // the goroutines of Serve

	mu        sync.Mutex
	listeners []net.Listener
	first     *conn         // of the list of connections
	complete  bool          // nothing comes to the list any more
	empty     chan struct{} // closed when no connection is left and none comes any more

	work    chan *conn   // to workers that wait
	waiting atomic.Int64 // workers
}

// Bounds of the pause after a failure to accept, which doubles.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 500 * time.Millisecond
)

// New returns a server that has no listener yet.
func New(h Handler, c Config) *Server {
	s := &Server{handler: h, log: c.Log, empty: make(chan struct{}), work: make(chan *conn)}
	s.refuser.init(c)
	s.Reconfigure(c)
	return s
}

// Reconfigure makes everything of c but Log count for connections that begin
// from now on. Those that are open stay, also when they are more than c allows,
// and count; for a limit per address only if there was one when they began. It
// is not to be called by several goroutines at once.
func (s *Server) Reconfigure(c Config) {
	s.config.Store(&c)
	switch count := s.perIP.Load(); {
	case c.MaxConnectionsPerIP == 0:
		s.perIP.Store(nil)
	case count != nil:
		count.limit.Store(int64(c.MaxConnectionsPerIP))
	default:
		s.perIP.Store(newAddressCount(c.MaxConnectionsPerIP))
	}
}

// Draining reports whether Drain was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Serve accepts connections until the listener is closed. Failures to accept
// (no file descriptors, say) are logged and waited out; they never end it.
func (s *Server) Serve(l net.Listener) {
	if !s.take(l) {
		_ = l.Close() // it accepts nothing more either way
		return
	}
	defer s.accepting.Done()
	var backoff time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			backoff = 0
			s.start(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.closing.Load() {
			return
		}
		s.Stats.AcceptErrors.Add(1)
		if backoff == 0 {
			s.log.Error(err, "cannot accept connections; trying again until it works", "address", l.Addr().String())
		}
		backoff = min(max(2*backoff, minBackoff), maxBackoff)
		time.Sleep(backoff)
	}
}

// take adds a listener to those that Drain closes; false: that has happened.
func (s *Server) take(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	s.accepting.Add(1)
	return true
}

// start takes a connection in, unless there are too many.
func (s *Server) start(nc net.Conn) {
	c := &conn{nc: nc, s: s, peer: proxy.Peer{Addr: remote(nc), Since: time.Now()}}
	if open, most := s.Stats.Open.Add(1), s.config.Load().MaxConnections; most > 0 && open > int64(most) {
		s.Stats.Open.Add(-1)
		s.turnAway(c, TooManyConnections)
		return
	}
	s.Stats.Accepted.Add(1)
	s.mu.Lock()
	if c.next = s.first; c.next != nil {
		c.next.prev = c
	}
	s.first = c
	s.mu.Unlock()
	select {
	case s.work <- c: // a worker waits
	default:
		go s.worker(c)
	}
}

// maxWorkers bounds the goroutines that wait for a connection to serve.
const maxWorkers = 256

// worker serves a connection, and then others: a goroutine that has served has
// the stack that serving takes.
func (s *Server) worker(c *conn) {
	for {
		s.serve(c)
		if s.waiting.Add(1) > maxWorkers {
			s.waiting.Add(-1)
			return
		}
		select {
		case c = <-s.work:
			s.waiting.Add(-1)
		case <-s.empty:
			return
		}
	}
}

// serve is the life of a connection.
func (s *Server) serve(c *conn) {
	defer s.ended(c)
	config, perIP := s.config.Load(), s.perIP.Load()
	if config.ProxyProtocol.Has(c.peer.Addr.Addr()) && !s.readHeader(c, config.HeaderTimeout) {
		return
	}
	if perIP != nil && !config.PerIPExempt.Has(c.peer.Addr.Addr()) {
		addr := c.peer.Addr.Addr()
		if !perIP.take(addr) {
			s.turnAway(c, TooManyOfAddress)
			return
		}
		defer perIP.give(addr)
	}
	s.handler.ServeConn(c.nc, c)
}

func (s *Server) ended(c *conn) {
	s.mu.Lock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	last := s.first == nil && s.complete
	s.mu.Unlock()
	s.Stats.Open.Add(-1)
	if last {
		s.signalEmpty()
	}
}

// addressCount counts the open connections of each address. It holds nothing of
// addresses that have none.
type addressCount struct {
	limit atomic.Int64
	mu    sync.Mutex
	open  map[netip.Addr]int
}

func newAddressCount(limit int) *addressCount {
	a := &addressCount{open: make(map[netip.Addr]int)}
	a.limit.Store(int64(limit))
	return a
}

// take counts one more, unless the address has as many as it may have.
func (a *addressCount) take(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.open[addr]
	if int64(n) >= a.limit.Load() {
		return false
	}
	a.open[addr] = n + 1
	return true
}

// give undoes a take.
func (a *addressCount) give(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.open[addr]; n > 1 {
		a.open[addr] = n - 1
	} else {
		delete(a.open, addr)
	}
}
