package proxy_test

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// bed is a proxy on a network in memory, with the records of its requests.
type bed struct {
	t       *testing.T
	net     *memnet.Network
	reg     *upstream.Registry
	config  proxy.Config
	proxy   *proxy.Proxy
	srv     *server.Server
	front   netip.AddrPort
	table   *proxy.Table
	sink    *sink
	closers []func()
}

// inBubble runs a test of a bed in a synctest bubble, which fails when a
// goroutine is left.
func inBubble(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Helper()
	inTrustingBubble(t, nil, f)
}

// inTrustingBubble is inBubble with a proxy that believes some peers.
func inTrustingBubble(t *testing.T, trusted proxy.Prefixes, f func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, trusted)
		defer b.close()
		f(t, b)
	})
}

// newBed returns a proxy that believes the trusted peers.
func newBed(t *testing.T, trusted proxy.Prefixes) *bed {
	b := &bed{t: t, net: memnet.New(), reg: upstream.NewRegistry(), sink: &sink{}, front: netip.MustParseAddrPort("192.0.2.80:80")}
	b.config = proxy.Config{Trusted: trusted}
	b.config.Dial = func(addr netip.AddrPort, _ time.Duration) (net.Conn, error) { return b.net.Dial(addr) }
	b.config.Log = funcr.New(func(_, args string) { t.Error("the proxy complains: " + args) }, funcr.Options{})
	b.serve()
	return b
}

// serve makes the proxy anew.
func (b *bed) serve() {
	b.proxy = proxy.New(b.sink, b.config)
	b.srv = server.New(b.proxy, server.Config{})
	go b.srv.Serve(b.net.Listen(b.front))
	synctest.Wait()
}

// restart makes the proxy anew with another configuration.
func (b *bed) restart(change func(c *proxy.Config)) {
	b.drain()
	change(&b.config)
	b.serve()
}

func (b *bed) drain() {
	b.srv.Drain(b.t.Context(), server.DrainTimes{Timeout: time.Second, Upgraded: time.Second})
}

func (b *bed) close() {
	b.drain()
	for _, c := range b.closers {
		c()
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	b.reg.Run(done)
}

// apply serves a plan.
func (b *bed) apply(p plan.Plan) {
	b.t.Helper()
	b.reg.Prepare(p.Pools)
	t, err := proxy.Compile(p, b.reg, b.sink, b.table)
	if err != nil {
		b.t.Fatal(err)
	}
	b.table = t
	b.proxy.Publish(t)
	b.reg.Retire(p.Pools)
}

// backend answers connections to addr with a script until the bed closes.
func (b *bed) backend(addr string, script func(c net.Conn, r *bufio.Reader)) {
	l := b.net.Listen(netip.MustParseAddrPort(addr))
	b.closers = append(b.closers, func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				script(c, bufio.NewReader(c))
			}()
		}
	}()
}

// requests are the requests that come on a backend's connection, until one does not.
// The body of each is to be read before the next, or is taken for that.
func requests(r *bufio.Reader) iter.Seq[*http.Request] {
	return func(yield func(*http.Request) bool) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil || !yield(req) {
				return
			}
		}
	}
}

// httpBackend serves addr by net/http.
func (b *bed) httpBackend(addr string, h http.HandlerFunc) {
	l := b.net.Listen(netip.MustParseAddrPort(addr))
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	b.closers = append(b.closers, func() { _ = s.Close() })
	go func() { _ = s.Serve(l) }()
}

// dial opens a client's connection to the proxy.
func (b *bed) dial() *peer {
	c, err := b.net.Dial(b.front)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &peer{t: b.t, Conn: c.(*memnet.Conn)}
	p.r = bufio.NewReader(p.Conn)
	b.closers = append(b.closers, func() { _ = c.Close() })
	return p
}

// peer is a client that writes bytes and reads responses.
type peer struct {
	*memnet.Conn
	t *testing.T
	r *bufio.Reader
}

func (p *peer) send(raw string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, raw); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// stream writes the pieces until the connection is closed.
func (p *peer) stream(pieces ...string) {
	for _, s := range pieces {
		if _, err := io.WriteString(p.Conn, s); err != nil {
			return
		}
	}
}

// answer reads a response with its body, which may be cut.
type answer struct {
	*http.Response
	body string
	cut  error
}

func (p *peer) read(method string) answer {
	p.t.Helper()
	res, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		p.t.Fatalf("no response: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body), err}
}

// get sends a request head (lines without CRLF) and reads the response.
func (p *peer) get(lines ...string) answer {
	p.t.Helper()
	p.send(strings.Join(lines, "\r\n") + "\r\n\r\n")
	method, _, _ := strings.Cut(lines[0], " ")
	return p.read(method)
}

// closed reports whether the proxy has closed the connection, with nothing more
// said on it.
func (p *peer) closed() bool {
	p.t.Helper()
	synctest.Wait()
	_ = p.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := p.r.ReadByte()
	_ = p.SetReadDeadline(time.Time{})
	return err != nil && err != context.DeadlineExceeded && !isTimeout(err)
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// sink records.
type sink struct {
	mu      sync.Mutex
	records []proxy.Record
	begun   int
	ended   int
	whys    []retry.Why
}

func (s *sink) Series(proxy.RuleID) proxy.Series { return s }
func (s *sink) Retain([]proxy.RuleID)            {}

func (s *sink) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
}

func (s *sink) Retry(why retry.Why) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whys = append(s.whys, why)
}

func (s *sink) End(*proxy.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
}

func (s *sink) Log(r *proxy.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *r
	for _, b := range []*[]byte{&c.Method, &c.Host, &c.Path, &c.Query, &c.UserAgent, &c.RequestID} {
		*b = append([]byte(nil), *b...)
	}
	s.records = append(s.records, c)
}

// last waits until everything has come to rest and returns the newest record.
func (s *sink) last(t *testing.T) proxy.Record {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		t.Fatal("no request was recorded")
	}
	if s.begun != s.ended {
		t.Errorf("%d requests begun, %d ended", s.begun, s.ended)
	}
	return s.records[len(s.records)-1]
}

// onePool is a plan of one rule, "shop" for shop.example.com, whose pool has the
// addresses.
func onePool(addrs ...string) plan.Plan {
	key := plan.PoolKey{Namespace: "shop", Service: "web", Port: 80, Policy: plan.Policy{
		Connection:  plan.Connection{MaxIdlePerEndpoint: 64, IdleTimeout: 55 * time.Second},
		RetryBudget: plan.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinCount: 10, MinInterval: time.Second},
	}}
	pool := plan.Pool{Key: key}
	for _, a := range addrs {
		pool.Endpoints = append(pool.Endpoints, plan.Endpoint{Addr: netip.MustParseAddrPort(a)})
	}
	return plan.Plan{
		Routes: []*plan.Route{{
			Namespace: "shop", Name: "shop", Hostnames: []string{"shop.example.com"},
			Rules: []plan.Rule{{
				Name:    "all",
				Matches: []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}}},
				Legs:    []plan.Leg{{Weight: 1, Pool: key}},
				Timeouts: plan.Timeouts{
					Connect: 3 * time.Second, ResponseHeader: 60 * time.Second,
					RequestBodyIdle: 15 * time.Second, ResponseBodyIdle: 60 * time.Second, StreamIdle: time.Hour,
				},
				Limits: plan.Limits{MaxRequestBodyBytes: 1 << 20},
			}},
		}},
		Pools: []plan.Pool{pool},
	}
}

const backendAddr = "10.0.0.1:8080"

const shopHost = "Host: shop.example.com"
