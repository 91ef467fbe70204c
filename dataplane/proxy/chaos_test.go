package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// chaos is backends, a network, clients and an operator of whom nobody does what
// the others expect.
type chaos struct {
	*bed
	addrs []string
	pools map[*upstream.Pool]bool // that there ever were

	mu   sync.Mutex
	seen map[string]int // endpoints that got the head of a request, by its id
	next int            // id
	good int            // responses that came whole
}

// connect is the network between the proxy and its endpoints.
func (x *chaos) connect(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	switch rand.IntN(20) {
	case 0:
		time.Sleep(timeout)
		return nil, syscall.ETIMEDOUT
	case 1:
		time.Sleep(rand.N(200 * time.Millisecond))
		return nil, syscall.ECONNREFUSED
	case 2:
		return nil, syscall.EMFILE
	case 3:
		time.Sleep(rand.N(200 * time.Millisecond))
	}
	return x.net.Dial(addr)
}

// serve is an endpoint.
func (x *chaos) serve(c net.Conn, r *bufio.Reader) {
	for {
		if rand.IntN(30) == 0 {
			return
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		id := req.Header.Get("X-Id")
		x.mu.Lock()
		x.seen[id]++
		x.mu.Unlock()
		if req.Header.Get("Expect") != "" && rand.IntN(2) == 0 {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if rand.IntN(6) > 0 {
			if _, err = io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
		if rand.IntN(4) == 0 {
			time.Sleep(rand.N(300 * time.Millisecond))
		}
		if !x.respond(c, r, req.Method, id) {
			return
		}
	}
}

// respond answers in one of many ways, and reports whether the connection goes on.
func (x *chaos) respond(c net.Conn, r *bufio.Reader, method, id string) (more bool) {
	body := id
	if method == "HEAD" {
		body = ""
	}
	whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), body)
	say := func(s string) { _, _ = io.WriteString(c, s) }
	switch rand.IntN(24) {
	case 0:
		return false
	case 1:
		say(whole[:rand.IntN(len(whole))])
		return false
	case 2:
		_, _ = io.Copy(io.Discard, r) // until the proxy has enough
		return false
	case 3:
		say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		time.Sleep(rand.N(300 * time.Millisecond))
		say(whole)
	case 4:
		say("HTTP/1.1 503 x\r\nRetry-After: " + []string{"1", "-3", "99999999999999999999", "Thu, 01 Jan 1970 00:00:00 GMT", "x"}[rand.IntN(5)] + "\r\nContent-Length: 0\r\n\r\n")
	case 5:
		say("HTTP/1.1 502 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return false
	case 6:
		say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
		return false
	case 7:
		if method == "HEAD" {
			say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			return true
		}
		say(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(id), id))
		time.Sleep(rand.N(300 * time.Millisecond))
		say("0\r\n\r\n")
	case 8:
		say("nonsense\r\n\r\n")
		return false
	case 9:
		say(whole + "more than that")
		return false
	case 10:
		say("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat(" ", 300000-len(id)) + id)
		return method != "HEAD"
	case 11:
		say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
		time.Sleep(rand.N(time.Second))
		return false
	default:
		say(whole)
	}
	return true
}

// plan has rules of every kind, with what an operator may change at any time.
func (x *chaos) plan() plan.Plan {
	policies := []func(p *plan.Policy){
		func(p *plan.Policy) {
			p.Breaker = plan.CircuitBreaker{MaxParallelRequests: 5 + rand.Uint32N(2), MaxPendingRequests: 4, MaxPendingTime: 300 * time.Millisecond, EndpointMaxParallelRequests: 3}
		},
		func(p *plan.Policy) {
			p.LoadBalancing.Balancer, p.LoadBalancing.Hash = plan.ConsistentHash, plan.HashKey{Source: plan.HashHeader, Name: "x-id"}
			p.Breaker = plan.CircuitBreaker{MaxConnections: 5, MaxPendingRequests: 20, MaxPendingTime: time.Second}
		},
		func(p *plan.Policy) {
			p.LoadBalancing.Balancer = plan.PeakEWMA
			p.Breaker = plan.CircuitBreaker{MaxPendingRequests: 3, Adaptive: plan.AdaptiveConcurrency{MaxRequests: 100}}
		},
		func(p *plan.Policy) { p.LoadBalancing.Balancer = plan.RoundRobin },
	}
	base := onePool(x.addrs...)
	p := plan.Plan{Routes: []*plan.Route{{Namespace: "shop", Name: "shop", Hostnames: []string{"shop.example.com"}}}}
	for i, change := range policies {
		pool := base.Pools[0]
		pool.Key.Service = fmt.Sprintf("web%d", i)
		policy := &pool.Key.Policy
		policy.RetryBudget.Percent = 100
		policy.Connection.MaxIdlePerEndpoint = rand.Uint32N(3)
		policy.Passive = plan.PassiveCheck{ConsecutiveFailures: 5, BaseEjection: time.Second, MaxEjection: 3 * time.Second, MaxEjectedPercent: 50}
		policy.Passive.Statuses.Add(502, 504)
		policy.PanicThresholdPercent = 50
		change(policy)
		pool.Endpoints = pool.Endpoints[:2+rand.IntN(len(x.addrs)-1)]
		p.Pools = append(p.Pools, pool)
	}
	for i := range rules {
		r := base.Routes[0].Rules[0]
		r.Name = fmt.Sprintf("rule%d", i)
		r.Matches = []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: fmt.Sprintf("/%d", i)}}}
		r.Legs = []plan.Leg{{Weight: 3, Pool: p.Pools[i%4].Key}, {Weight: 1, Pool: p.Pools[(i+1)%4].Key}}
		r.Timeouts = plan.Timeouts{Connect: time.Second, ResponseHeader: 2 * time.Second, RequestBodyIdle: time.Second, ResponseBodyIdle: time.Second, StreamIdle: time.Second}
		r.Limits = plan.Limits{MaxInFlight: 6 + rand.Uint32N(2), MaxRequestBodyBytes: 200_000, MaxResponseBodyBytes: 290_000 + 20_000*rand.Int64N(2)}
		r.Retry = plan.Retry{
			Attempts: 3, On: plan.RetryReset | plan.RetryCodes, TotalTimeout: 3 * time.Second,
			Backoff: 50 * time.Millisecond, MaxBackoff: time.Second, MaxBodyBytes: 64 << 10, HonorRetryAfter: true, Methods: plan.RetryMethods(i % 3),
		}
		r.Retry.Codes.Add(502, 504)
		r.Rebalance = i%2 == 0
		if i%2 == 0 {
			r.Retry.HedgeAfter = 50 * time.Millisecond
		}
		if i%3 == 0 {
			r.Timeouts.Request, r.Timeouts.BackendRequest = 4*time.Second, time.Second
		}
		if i%4 == 0 {
			r.Session = plan.Session{Cookie: "s"}
		}
		if i%5 == 0 {
			r.Filters = []plan.Filter{{Type: plan.FilterRateLimit, RateLimit: plan.RateLimit{Requests: 100, Period: time.Second, Burst: 100, Key: plan.LimitKey{Source: plan.LimitByHeader, Name: "x-id"}}}}
		}
		if rand.IntN(10) > 0 {
			p.Routes[0].Rules = append(p.Routes[0].Rules, r)
		}
	}
	return p
}

const rules = 10

func (x *chaos) change(p plan.Plan) {
	x.apply(p)
	for _, p := range x.reg.Pools() {
		x.pools[p] = true
	}
}

// client sends requests on one connection after the other.
func (x *chaos) client(requests int) {
	var c *peer
	for range requests {
		if c == nil {
			conn, err := x.net.Dial(x.front)
			if err != nil {
				x.t.Error(err)
				return
			}
			c = &peer{t: x.t, Conn: conn.(*memnet.Conn), r: bufio.NewReader(conn)}
		}
		if !x.request(c) {
			_ = c.Close()
			c = nil
		}
		time.Sleep(rand.N(50 * time.Millisecond))
	}
	if c != nil {
		_ = c.Close()
	}
}

// request sends one request and takes what comes; false: the connection is to be
// closed.
func (x *chaos) request(c *peer) (more bool) {
	x.mu.Lock()
	x.next++
	rule := rand.IntN(rules)
	method := []string{"GET", "GET", "HEAD", "PUT", "POST"}[rand.IntN(5)]
	id := fmt.Sprintf("%d-%s-%d", rule, method, x.next)
	x.mu.Unlock()
	head := fmt.Sprintf("%s /%d HTTP/1.1\r\n%s\r\nX-Id: %s\r\n", method, rule, shopHost, id)
	body := ""
	switch rand.IntN(7) {
	case 0:
		body = strings.Repeat("b", 1+rand.IntN(100_000))
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	case 1:
		body = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
		head += "Transfer-Encoding: chunked\r\n"
	case 2:
		body = strings.Repeat("b", 5000)
		head += fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n", len(body))
	case 3:
		if method == "GET" {
			head += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
		}
	}
	whole := head + "\r\n" + body
	leave := time.NewTimer(time.Hour)
	switch rand.IntN(12) {
	case 0: // goes at any time
		leave.Reset(rand.N(time.Second))
	case 1: // sends a part only, and goes
		c.stream(whole[:rand.IntN(len(whole))])
		time.Sleep(rand.N(2 * time.Second))
		return false
	}
	gone := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		cut := rand.IntN(len(whole) + 1)
		c.stream(whole[:cut])
		if rand.IntN(4) == 0 {
			time.Sleep(rand.N(1200 * time.Millisecond))
		}
		c.stream(whole[cut:])
	}()
	go func() {
		select {
		case <-leave.C:
			_ = c.Close()
		case <-gone:
		}
	}()
	more = x.response(c, method, id)
	close(gone)
	leave.Stop()
	if !more {
		_ = c.Close()
	}
	<-sent
	return more
}

func (x *chaos) response(c *peer, method, id string) (more bool) {
	for {
		res, err := http.ReadResponse(c.r, &http.Request{Method: method})
		if err != nil {
			return false
		}
		if res.StatusCode == 101 {
			c.stream("hi")
			_, _ = io.Copy(io.Discard, c.r)
			return false
		}
		if res.StatusCode < 200 {
			continue
		}
		if rand.IntN(20) == 0 {
			time.Sleep(rand.N(3 * time.Second)) // reads late
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			return false
		}
		if s := strings.TrimSpace(string(got)); res.StatusCode == 200 && s != id && method != "HEAD" && res.Header.Get("Proxy-Status") == "" {
			x.t.Errorf("%s got the answer %.100q", id, s)
		}
		if res.StatusCode == 200 {
			x.mu.Lock()
			x.good++
			x.mu.Unlock()
		}
		return !res.Close
	}
}

// TestEveryCountIsZeroAgainWhateverHasHappened sends thousands of requests through
// all that limits, retries and hedges them, with failures at random everywhere, and
// counts what is left when all have ended.
func TestEveryCountIsZeroAgainWhateverHasHappened(t *testing.T) {
	for range 2 {
		inBubble(t, func(t *testing.T, b *bed) {
			x := &chaos{bed: b, pools: map[*upstream.Pool]bool{}, seen: map[string]int{}}
			held := http1.HeldBytes()
			b.restart(func(c *proxy.Config) {
				c.Dial, c.KeepBytes = x.connect, 256<<10
				c.Clients = proxy.ClientLimits{HeaderTimeout: time.Second, WriteTimeout: 2 * time.Second, KeepAliveTimeout: time.Second}
			})
			for i := range 5 {
				x.addrs = append(x.addrs, fmt.Sprintf("10.0.0.%d:80", i+1))
				b.backend(x.addrs[i], x.serve)
			}
			x.change(x.plan())
			var clients sync.WaitGroup
			for range 60 {
				clients.Go(func() { x.client(40) })
			}
			done := make(chan struct{})
			go func() { clients.Wait(); close(done) }()
			x.operate(done)
			x.verdict(held)
		})
	}
}

// operate changes the plan at times until done.
func (x *chaos) operate(done <-chan struct{}) {
	for {
		select {
		case <-done:
			time.Sleep(5 * time.Minute) // longer than anything goes on unheard
			return
		case <-time.After(rand.N(2 * time.Second)):
			x.change(x.plan())
		}
	}
}

func (x *chaos) verdict(held int64) {
	t := x.t
	synctest.Wait()
	p := x.plan()
	for i := range rules {
		e, err := x.proxy.Explain(proxy.Query{Method: "GET", URL: fmt.Sprintf("http://shop.example.com/%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range e.Limits {
			if strings.HasPrefix(l, "maxInFlight") && !strings.Contains(l, "of which 0 are under way") {
				t.Errorf("rule %d: %s", i, l)
			}
		}
	}
	for _, pool := range x.reg.Pools() {
		for _, e := range pool.Endpoints() {
			if v := pool.View(e, time.Now()); v.State == "probing" {
				t.Errorf("%s of %s: %s since %v", e.Addr, pool.Key.Service, v.Why, time.Since(v.Since))
			}
		}
	}
	p.Routes, p.Pools = nil, nil
	x.change(p) // closes what is idle
	synctest.Wait()
	for pool := range x.pools {
		for _, e := range pool.Endpoints() {
			if n := e.InFlight(); n != 0 {
				t.Errorf("%s of %s: %d in flight", e.Addr, pool.Key.Service, n)
			}
			if n := e.Idle(); n != 0 {
				t.Errorf("%s of %s: %d idle", e.Addr, pool.Key.Service, n)
			}
		}
		if b := pool.Breaker; b != nil && (b.Inside() != 0 || b.Waiting() != 0 || b.Connections.Load() != 0) {
			t.Errorf("%s: %d inside, %d wait, %d connections", pool.Key.Service, b.Inside(), b.Waiting(), b.Connections.Load())
		}
	}
	if now, high, bound := x.proxy.KeptBytes(); now != 0 || high > bound || high == 0 {
		t.Errorf("%d bytes are kept, and were up to %d of %d", now, high, bound)
	}
	if n := x.proxy.RateKeys(); n != 0 {
		t.Errorf("%d keys are taken", n)
	}
	if n := http1.HeldBytes() - held; n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	x.sink.last(t)
	if x.sink.ended != len(x.sink.records) {
		t.Errorf("%d requests ended, %d are recorded", x.sink.ended, len(x.sink.records))
	}
	again := 0
	for id, n := range x.seen {
		if n < 2 {
			continue
		}
		again++
		var rule, seq int
		var method string
		if _, err := fmt.Sscanf(strings.ReplaceAll(id, "-", " "), "%d %s %d", &rule, &method, &seq); err != nil {
			t.Fatal(id, err)
		}
		if method == "POST" && rule%3 != int(plan.RetryAny) {
			t.Errorf("%s was seen by %d endpoints", id, n)
		}
	}
	reasons := map[proxy.Reason]int{}
	for i := range x.sink.records {
		reasons[x.sink.records[i].Reason]++
	}
	t.Logf("%d requests, %d good, %d seen twice; %v", x.next, x.good, again, reasons)
}
