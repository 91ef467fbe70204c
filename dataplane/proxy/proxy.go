package proxy

import (
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// clientCheck is how often a wait for the upstream looks whether the client is
// still there.
const clientCheck = time.Second

// Dial connects to an endpoint within timeout; 0 is no bound.
type Dial func(addr netip.AddrPort, timeout time.Duration) (net.Conn, error)

// Peer is whose a connection is.
type Peer struct {
	// Addr is the client as far as the connection tells, or a load balancer that
	// forwards it; invalid when it is unknown. An IPv4 address is one, not an
	// IPv6 address that holds one, and there is no zone.
	Addr netip.AddrPort
	// Since is when the connection was accepted.
	Since time.Time
}

// Life tells a connection's handler whose the connection is and how long it may
// live, and is told what it does. It is used by the goroutine that serves the
// connection.
type Life interface {
	// Peer is the same during all of the connection's life.
	Peer() Peer
	// Idle says that the connection waits for a request; false: it is to be
	// closed instead.
	Idle() bool
	// Busy says that a request has begun; false: the connection was closed while
	// it was idle.
	Busy() bool
	// Draining reports whether the connection is to be closed after the request
	// that it has.
	Draining() bool
	// Cut reports whether the connection was closed by the drain while it had a
	// request.
	Cut() bool
	// Upgraded says that the request has become a tunnel, for which the drain has
	// a time of its own: when that is up it calls end, from any goroutine, with
	// the connection still open. end may be called after the tunnel has ended,
	// and must not block.
	Upgraded(end func())
	// Ending says that the last request has been answered, or was given up, and
	// that the connection is about to be closed: within the time for which the
	// client is given to read what was answered.
	Ending()
}

// Proxy serves the requests of client connections by the table that was
// published last. All methods may be called concurrently.
type Proxy struct {
	table     atomic.Pointer[Table]
	sink      Sink
	unmatched Series
	dial      Dial
	log       logr.Logger
	settings  atomic.Pointer[settings]
	replicas  atomic.Int32
	shared    limit.Shared // Config.Shared
	kept      *limit.ByteBudget
	rateKeys  *limit.KeyBudget
	exchanges sync.Pool
	idle      sync.Pool // of clients
}

// New returns a Proxy without a table: every request is answered with 503 until
// Publish.
func New(sink Sink, c Config) *Proxy {
	p := &Proxy{
		sink: sink, unmatched: sink.Series(RuleID{}), dial: c.Dial, log: c.Log, shared: c.Shared,
		kept: limit.NewByteBudget(0), rateKeys: limit.NewKeyBudget(maxAllKeys, time.Now()),
	}
	if p.dial == nil {
		p.dial = dialTCP
	}
	p.Reconfigure(c)
	p.exchanges.New = func() any { return newExchange(p) }
	return p
}

func dialTCP(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	// No keep-alive: a connection that is idle is not kept for a minute, and one
	// in use has timeouts of its own.
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	return d.Dial("tcp", addr.String()) // DialTCP would bind first, which costs a port
}

// Publish makes t, which was compiled after the table that was published last, the
// table of all requests that begin from now on.
func (p *Proxy) Publish(t *Table) {
	if old := p.table.Swap(t); old != nil {
		old.kept.retire(&t.kept)
	}
}

// SetReplicas says among how many processes like this one a limit that is for all
// of them is divided; less than one counts as one, as before the first call.
func (p *Proxy) SetReplicas(n int) { p.replicas.Store(int32(max(n, 1))) }

// Replicas returns how many there are.
func (p *Proxy) Replicas() int { return max(int(p.replicas.Load()), 1) }

// KeptBytes returns the memory that bodies kept to be sent again take now, the most
// that it ever was, and the bound.
func (p *Proxy) KeptBytes() (now, high, bound int64) {
	return p.kept.Used(), p.kept.High(), p.kept.Limit()
}

// RateKeys returns how many keys all rate limits together have room for now, beside
// the first 64 of each.
func (p *Proxy) RateKeys() int { return p.rateKeys.Used() }

// Table returns the table published last, or nil.
func (p *Proxy) Table() *Table { return p.table.Load() }

// ServeConn serves one client connection until it ends, and closes it.
func (p *Proxy) ServeConn(nc net.Conn, life Life) {
	c := p.lendClient(nc, life)
	defer c.end()
	c.until = life.Peer().Since.Add(c.settings.clients.HeaderTimeout)
	for life.Idle() {
		if c.AwaitData(c.until, c.serve) != nil || c.over {
			return
		}
		if c.ex == nil && c.SkipEmptyLine() {
			continue
		}
		if c.ex == nil {
			if !life.Busy() {
				return
			}
			c.ex = c.begin()
		}
		end, keep := c.finish()
		if !keep {
			return
		}
		c.Release()
		c.until = end.Add(c.settings.clients.KeepAliveTimeout)
	}
}

// end closes the connection. A defect of ours that panics ends no more than this
// one.
func (c *client) end() {
	v := recover()
	if v != nil {
		c.linger = false
		c.p.log.Error(nil, "a connection made the proxy panic and is closed", "panic", v, "stack", string(debug.Stack()))
		if c.ex != nil {
			c.ex.panicked()
		}
	}
	c.close()
	if v == nil { // else who knows what it holds
		c.p.returnClient(c)
	}
}

// begin lends an exchange to the request whose first bytes are there.
func (c *client) begin() *exchange {
	c.adopt()
	ex := c.p.exchanges.Get().(*exchange)
	ex.begin(c)
	return ex
}

// inline serves a request that is there whole: see http1.Conn.AwaitData. Any
// other is left to ServeConn, which may wait for the rest of it.
func (c *client) inline() (now, until time.Time, again bool) {
	if c.SkipEmptyLine() {
		return time.Now(), c.until, true
	}
	if !c.life.Busy() {
		c.over = true
		return now, until, false
	}
	c.ex = c.begin()
	if !c.ex.whole() {
		return now, until, false
	}
	end, keep := c.finish()
	if keep {
		c.Release()
		keep = c.life.Idle()
	}
	c.over = !keep
	c.until = end.Add(c.settings.clients.KeepAliveTimeout)
	return end, c.until, keep
}

// finish serves the request that was begun. An exchange that panics is not used
// again.
func (c *client) finish() (end time.Time, keep bool) {
	end, keep = c.ex.serve()
	c.p.exchanges.Put(c.ex)
	c.ex = nil
	return end, keep
}

// Sizes of the buffer that heads are written into: as made, and as kept.
const (
	smallOut   = 4 << 10
	maxKeptOut = 16 << 10
)

// setOut makes out, which has grown from ex.out, what is written next. It may be as
// large as a head and a piece of a body. What it is larger than smallOut counts
// against Config.MaxBufferBytes; the rest is, like the exchange, the same for every
// request, and there are no more of them than three for a connection.
func (ex *exchange) setOut(out []byte) {
	ex.out = out
	if more := int64(cap(out)-smallOut) - ex.outHeld; more != 0 {
		ex.outHeld += more
		http1.Hold(more)
	}
}

// releaseOut is for an exchange whose request has ended.
func (ex *exchange) releaseOut() {
	if ex.outHeld != 0 {
		http1.Hold(-ex.outHeld)
		ex.outHeld = 0
	}
}

// newExchange is the exchange of one request at a time; they are pooled.
func newExchange(p *Proxy) *exchange {
	ex := &exchange{p: p, uploaded: make(chan struct{}, 1)}
	ex.out = make([]byte, 0, smallOut)
	ex.keep.budget = p.kept
	return ex
}

// client is a client's connection and what every request on it has in common.
type client struct {
	http1.Conn
	p     *Proxy
	serve http1.Inline // inline, bound once
	clientState
}

// clientState is what a client forgets when its connection ends.
type clientState struct {
	life     Life
	peer     netip.AddrPort // whose the connection is
	settings *settings      // of its last request
	ex       *exchange      // of a request that was begun
	until    time.Time      // until when the next request is waited for
	begun    bool           // the head of a request was read
	over     bool           // nothing more is served
	// trusted: the peer is a proxy that is believed.
	trusted bool
	// linger: the client may still be sending; closing at once would make the
	// kernel reset the connection and take the answer with it (RFC 9112, 9.6).
	linger bool
	// abort: the end of the connection must not look like the end of the answer.
	abort bool
}

// lendClient makes a client of a connection; they are pooled, because they are
// large and connections may be short.
func (p *Proxy) lendClient(nc net.Conn, life Life) *client {
	c, _ := p.idle.Get().(*client)
	if c == nil {
		c = &client{p: p}
		c.serve = c.inline
	}
	c.life, c.peer = life, life.Peer().Addr
	c.adopt()
	c.Reset(nc, c.settings.clients.WriteTimeout)
	return c
}

// returnClient takes back one whose connection is closed.
func (p *Proxy) returnClient(c *client) {
	c.Reset(nil, 0)
	c.clientState = clientState{}
	p.idle.Put(c)
}

const (
	lingerTimeout = 2 * time.Second
	lingerBytes   = 1 << 20
)

// close closes the connection; where the client may still be sending, after it
// has had a chance to read what was answered.
func (c *client) close() {
	c.life.Ending()
	if c.abort {
		c.Abort()
		c.Free()
		return
	}
	if c.linger && c.CloseWrite() == nil {
		deadline := time.Now().Add(lingerTimeout)
		for left := lingerBytes; left > 0; {
			c.Free()
			if c.Fill(deadline) != nil {
				break
			}
			left -= len(c.Buffered())
		}
	}
	_ = c.Close() // nothing more is to be said on it
	c.Free()
}
