package server

import (
	"context"
	"errors"
	"net"
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

// Stats are counters of a server's connections, to be read at any time.
type Stats struct {
	Accepted     atomic.Int64 // connections accepted
	AcceptErrors atomic.Int64 // failures to accept
	Open         atomic.Int64 // connections that are open
}

// Server accepts connections and gives each to a Handler.
type Server struct {
	Stats Stats

	handler Handler
	log     logr.Logger

	draining atomic.Bool
	closing  atomic.Bool // idle connections are not wanted any more

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[*conn]struct{}
	empty     chan struct{} // closed when draining and no connection is left
}

// Bounds of the pause after a failure to accept, which doubles.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// New returns a server that has no listener yet.
func New(h Handler, log logr.Logger) *Server {
	return &Server{handler: h, log: log, conns: make(map[*conn]struct{}), empty: make(chan struct{})}
}

// Draining reports whether Drain was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Serve accepts connections until the listener is closed. Failures to accept
// (no file descriptors, say) are logged and waited out; they never end it.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if s.closing.Load() { // Drain may not have seen this one
		_ = l.Close() // it accepts nothing more either way
	}
	var backoff time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			backoff = 0
			s.start(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
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

func (s *Server) start(nc net.Conn) {
	c := &conn{Conn: nc, s: s}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.Stats.Accepted.Add(1)
	s.Stats.Open.Add(1)
	go func() {
		defer s.ended(c)
		s.handler.ServeConn(nc, c)
	}()
}

func (s *Server) ended(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	last := len(s.conns) == 0 && s.closing.Load()
	s.mu.Unlock()
	s.Stats.Open.Add(-1)
	if last {
		s.signalEmpty()
	}
}

func (s *Server) signalEmpty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// Drain ends the server: for delay it goes on accepting while every answer
// closes its connection, because load balancers learn late that a replica goes;
// then it closes the listeners and the idle connections and waits for the
// requests in flight until timeout; what is left then is cut. It returns the
// number of requests that were cut. ctx cuts everything short.
func (s *Server) Drain(ctx context.Context, delay, timeout time.Duration) (cut int) {
	s.draining.Store(true)
	sleep(ctx, delay)
	s.closing.Store(true)
	s.closeListeners()
	if s.closeIdle() == 0 {
		s.signalEmpty()
	}
	if s.awaitEmpty(ctx, timeout) {
		return 0
	}
	cut = s.closeAll()
	s.awaitEmpty(context.WithoutCancel(ctx), cutNotice)
	return cut
}

// cutNotice is how long the requests that were cut have to notice and be
// recorded.
const cutNotice = 2 * time.Second

// awaitEmpty waits for the last connection to end and reports whether it has.
func (s *Server) awaitEmpty(ctx context.Context, timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.empty:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close() // it accepts nothing more either way
	}
}

// closeIdle closes the connections that wait for a request and returns how many
// there were in all.
func (s *Server) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.closeIfIdle()
	}
	return len(s.conns)
}

// closeAll cuts every connection and returns how many had a request.
func (s *Server) closeAll() (cut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.CompareAndSwap(connBusy, connCut) {
			cut++
		}
		go c.Close() // which may have to wait for the request to notice
	}
	return cut
}

// Connection states.
const (
	connIdle   int32 = iota // waits for a request
	connBusy                // has one
	connCut                 // closed while it was busy
	connClosed              // closed while it was idle
)

// conn is the proxy.Life of a connection.
type conn struct {
	net.Conn
	s     *Server
	state atomic.Int32
}

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
		_ = c.Close() // nobody is using it
	}
}
