package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// judge is the backends of a pool, which keep every byte that they ever saw. The
// first connections fail at a point, the later ones answer.
type judge struct {
	point string
	fail  int
	hedge time.Duration // of the rule

	mu   sync.Mutex
	seen []*bytes.Buffer // of each connection
}

// points are where an attempt can fail. There is one more, "late": it answers when
// others have been asked as well.
var points = []string{"refused", "at once", "after the head", "in the body", "in the response's head", "in the response's body", "503"}

func (j *judge) serve(c net.Conn, _ *bufio.Reader) {
	var seen lockedBuffer
	j.mu.Lock()
	j.seen = append(j.seen, &seen.Buffer)
	fails := len(j.seen) <= j.fail
	seen.mu = &j.mu
	j.mu.Unlock()
	if fails && j.point == "at once" {
		return
	}
	r := bufio.NewReader(io.TeeReader(c, &seen))
	req, err := http.ReadRequest(r)
	switch {
	case err != nil, fails && j.point == "after the head":
		return
	case fails && j.point == "in the body":
		if req.ContentLength != 0 {
			_, _ = r.ReadByte()
		}
		return
	}
	if _, err = io.Copy(io.Discard, req.Body); err != nil {
		return
	}
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	if fails {
		switch j.point {
		case "in the response's head":
			answer = answer[:20]
		case "in the response's body":
			answer = answer[:len(answer)-1]
		case "503":
			answer = unavailable
		case "late":
			time.Sleep(time.Second)
		}
	}
	_, _ = io.WriteString(c, answer)
	if !fails || j.point == "503" || j.point == "late" {
		_, _ = io.Copy(io.Discard, r) // until the proxy closes, and every byte is seen
	}
}

type lockedBuffer struct {
	bytes.Buffer
	mu *sync.Mutex
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// bodies are the requests' bodies: in one piece with the head, or behind it after
// a while.
var bodies = []struct {
	name        string
	field       string
	first, then string
}{
	{name: "none"},
	{"at once", "Content-Length: 5\r\n", "hello", ""},
	{"slow", "Content-Length: 10\r\n", "hello", "world"},
	{"late", "Content-Length: 5\r\n", "", "hello"},
	{"chunked", "Transfer-Encoding: chunked\r\n", "5\r\nhel", "lo\r\n0\r\n\r\n"},
	{"large", "Content-Length: 200000\r\n", strings.Repeat("x", 100000), strings.Repeat("y", 100000)},
}

// TestNoRequestIsProcessedTwiceUnlessItMayBe has every method fail at every point
// under every policy, and asks the backends what they saw.
func TestNoRequestIsProcessedTwiceUnlessItMayBe(t *testing.T) {
	methods := map[string]plan.RetryMethods{
		"GET": plan.RetrySafe, "HEAD": plan.RetrySafe, "OPTIONS": plan.RetrySafe,
		"PUT": plan.RetryIdempotent, "DELETE": plan.RetryIdempotent,
		"POST": plan.RetryAny, "PATCH": plan.RetryAny, "FROB": plan.RetryAny,
	}
	cases, again := 0, 0
	for method, least := range methods {
		for _, point := range points {
			for policy := plan.RetrySafe; policy <= plan.RetryAny+1; policy++ { // the last one: no policy
				for _, body := range bodies {
					cases++
					name := fmt.Sprintf("%s fails %s, policy %d, body %s", method, point, policy, body.name)
					allowed := policy <= plan.RetryAny && policy >= least && point != "in the response's body"
					inBubble(t, func(t *testing.T, b *bed) {
						j := &judge{point: point, fail: 1}
						status := j.run(b, method, policy, body.field, body.first, body.then)
						again += j.verdict(t, name, status, allowed, body.first+body.then, body.name != "large")
					})
				}
			}
		}
	}
	t.Logf("%d cases, %d of them seen by two endpoints", cases, again)
	if again < 100 {
		t.Error("too few: the backends do not fail as they should")
	}
}

func (j *judge) run(b *bed, method string, policy plan.RetryMethods, field, first, then string) (status int) {
	addrs := three[:2]
	if j.point == "refused" {
		j.fail = 0
		addrs = addrs[1:]
	}
	for _, a := range addrs {
		b.backend(a, j.serve)
	}
	b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) {
		r.Retry.HedgeAfter = j.hedge
		if r.Retry.Methods = policy; policy > plan.RetryAny {
			r.Retry = plan.Retry{}
		}
	}))
	c := b.dial()
	go func() {
		c.stream(method+" / HTTP/1.1\r\n"+shopHost+"\r\n"+field+"\r\n", first)
		time.Sleep(time.Second)
		c.stream(then)
	}()
	status = c.read(method).StatusCode
	time.Sleep(2 * time.Second)
	_ = c.Close()
	b.drain()
	b.reg.Retire(nil) // closes what is kept, so that the backends have seen all
	synctest.Wait()
	return status
}

// TestNoRequestIsHedgedUnlessItIsSafe has every method wait for a response under
// every policy with hedges, and fail at the points where another attempt may follow.
func TestNoRequestIsHedgedUnlessItIsSafe(t *testing.T) {
	methods := map[string]plan.RetryMethods{
		"GET": plan.RetrySafe, "HEAD": plan.RetrySafe, "OPTIONS": plan.RetrySafe,
		"PUT": plan.RetryIdempotent, "DELETE": plan.RetryIdempotent, "POST": plan.RetryAny, "FROB": plan.RetryAny,
	}
	hedges, again := 0, 0
	for method, least := range methods {
		for _, point := range []string{"late", "after the head", "503"} {
			for policy := plan.RetrySafe; policy <= plan.RetryAny+1; policy++ { // the last one: no policy
				for _, body := range bodies {
					name := fmt.Sprintf("%s is %s, policy %d, body %s", method, point, policy, body.name)
					allowed := policy <= plan.RetryAny && policy >= least
					if point == "late" {
						allowed = policy <= plan.RetryAny && least == plan.RetrySafe && body.name == "none"
					}
					inBubble(t, func(t *testing.T, b *bed) {
						j := &judge{point: point, fail: 1, hedge: hedgeAfter}
						status := j.run(b, method, policy, body.field, body.first, body.then)
						twice := j.verdict(t, name, status, allowed, body.first+body.then, body.name != "large")
						if again += twice; point == "late" {
							hedges += twice
						}
					})
				}
			}
		}
	}
	if want := 3 * 3; hedges != want { // each safe method under each policy
		t.Errorf("%d hedges, want %d, and %d requests were seen by two endpoints", hedges, want, again)
	}
}

// verdict returns 1 if more than one endpoint saw something of the request.
func (j *judge) verdict(t *testing.T, name string, status int, allowed bool, body string, small bool) int {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	saw := slices.DeleteFunc(slices.Clone(j.seen), func(b *bytes.Buffer) bool { return b.Len() == 0 })
	if len(saw) > 1 && !allowed {
		t.Errorf("%s: %d endpoints saw it:\n%q\n%q", name, len(saw), saw[0], saw[1])
	}
	if status != 200 && (j.point == "refused" || allowed && small) {
		t.Errorf("%s: status %d", name, status)
	}
	for i, b := range saw {
		head, got, _ := strings.Cut(b.String(), "\r\n\r\n")
		if marked := strings.Contains(head, "X-Ferrum-Attempt: 2"); marked != (len(j.seen) > 1 && i == len(saw)-1 || j.point == "refused") {
			t.Errorf("%s: endpoint %d of %d got the head\n%s", name, i+1, len(j.seen), head)
		}
		if last := i == len(saw)-1 && status == 200 && j.point != "in the response's body"; !strings.HasPrefix(body, got) || last && got != body {
			t.Errorf("%s: endpoint %d got a body of %d bytes, which is not what was sent", name, i+1, len(got))
		}
	}
	return max(0, min(len(saw)-1, 1))
}

// TestAStormOfFailuresStaysWithinTheBudget has pools of which a share of the
// requests fails, and a policy that asks for ten attempts.
func TestAStormOfFailuresStaysWithinTheBudget(t *testing.T) {
	const clients, each, seconds = 50, 100, 10
	t.Log("failing  upstream/client  client errors")
	for _, failing := range []float64{0, 0.01, 0.1, 0.25, 0.5, 0.9, 1} {
		inBubble(t, func(t *testing.T, b *bed) {
			var upstream, errs atomic.Int64
			addrs := make([]string, 12)
			for i := range addrs {
				addrs[i] = fmt.Sprintf("10.0.1.%d:80", i+1)
				b.httpBackend(addrs[i], func(w http.ResponseWriter, _ *http.Request) {
					if upstream.Add(1); rand.Float64() < failing {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				})
			}
			b.apply(retrying(addrs, func(r *plan.Rule, p *plan.Policy) {
				p.LoadBalancing.Balancer = plan.LeastRequest
				r.Retry.Attempts, r.Retry.Backoff = 10, 10*time.Millisecond
			}))
			began := time.Now()
			var wg sync.WaitGroup
			for range clients {
				c := b.dial()
				wg.Go(func() {
					for range each {
						if c.get("GET / HTTP/1.1", shopHost).StatusCode != 200 {
							errs.Add(1)
						}
						time.Sleep(seconds * time.Second / each)
					}
				})
			}
			wg.Wait()
			const requests = clients * each
			t.Logf("%6.0f%%  %15.3f  %12.2f%%", failing*100, float64(upstream.Load())/requests, float64(errs.Load())*100/requests)
			if most := 1.2*requests + 10*(1+time.Since(began).Seconds()); float64(upstream.Load()) > most {
				t.Errorf("%d requests reached a backend, more than %v", upstream.Load(), most)
			}
			if failing <= 0.1 && errs.Load() > 0 {
				t.Errorf("with %v failing %d errors that the budget could have paid for", failing, errs.Load())
			}
			if failing == 1 && !slices.Contains(b.sink.whys, retry.WhyBudget) {
				t.Error("the budget was never used up")
			}
		})
	}
}

// TestAStormOfHedgesStaysWithinTheBudget has pools of which a share of the requests
// is slow, some fail and some find no connection, and a policy that asks for hedges
// and ten attempts.
func TestAStormOfHedgesStaysWithinTheBudget(t *testing.T) {
	const clients, each = 50, 60
	t.Log("slow  upstream/client")
	for _, slow := range []float64{0, 0.1, 0.5, 1} {
		inBubble(t, func(t *testing.T, b *bed) {
			var upstream atomic.Int64
			addrs := make([]string, 12)
			for i := range addrs {
				addrs[i] = fmt.Sprintf("10.0.1.%d:80", i+1)
				b.httpBackend(addrs[i], func(w http.ResponseWriter, _ *http.Request) {
					upstream.Add(1)
					if rand.Float64() < slow {
						time.Sleep(50 * time.Millisecond)
					}
					if rand.Float64() < slow/2 {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				})
			}
			b.restart(func(c *proxy.Config) {
				dial := c.Dial
				c.Dial = func(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
					if rand.Float64() < slow/3 {
						return nil, syscall.ECONNREFUSED
					}
					return dial(addr, timeout)
				}
			})
			p := retrying(addrs, func(r *plan.Rule, p *plan.Policy) {
				p.LoadBalancing.Balancer = plan.LeastRequest
				r.Retry.Attempts, r.Retry.Backoff, r.Retry.HedgeAfter = 10, 10*time.Millisecond, 10*time.Millisecond
			})
			b.apply(p)
			began := time.Now()
			var wg sync.WaitGroup
			for range clients {
				c := b.dial()
				wg.Go(func() {
					for range each {
						c.get("GET / HTTP/1.1", shopHost)
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			const requests = clients * each
			t.Logf("%3.0f%%  %15.3f", slow*100, float64(upstream.Load())/requests)
			if most := 1.2*requests + 10*(1+time.Since(began).Seconds()); float64(upstream.Load()) > most {
				t.Errorf("%d requests reached a backend, more than %v", upstream.Load(), most)
			}
			if hedged := slices.Contains(b.sink.whys, retry.WhyHedge); hedged != (slow > 0) {
				t.Errorf("with %v slow: hedged %t", slow, hedged)
			}
			if slow == 1 && !slices.Contains(b.sink.whys, retry.WhyBudget) {
				t.Error("the budget was never used up")
			}
			time.Sleep(time.Second)
			b.atRest(p)
		})
	}
}

// TestARolloutCostsNothing has one of four endpoints refuse at a time, while
// requests go on over kept connections, without any policy.
func TestARolloutCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		addrs := append(slices.Clone(three), "10.0.0.4:8080")
		start := make(map[string]func() (stop func()))
		for _, a := range addrs {
			start[a] = func() func() { return b.restartable(a) }
		}
		stop := make([]func(), len(addrs))
		for i, a := range addrs {
			stop[i] = start[a]()
		}
		b.apply(retrying(addrs, func(r *plan.Rule, p *plan.Policy) {
			p.LoadBalancing.Balancer, r.Retry = plan.LeastRequest, plan.Retry{}
		}))
		done := make(chan struct{})
		var requests atomic.Int64
		var wg sync.WaitGroup
		for i := range 20 {
			c := b.dial()
			raw := get
			if i%2 == 0 {
				raw = post
			}
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(10 * time.Millisecond):
					}
					requests.Add(1)
					c.send(raw)
					if a := c.read("GET"); a.StatusCode != 200 {
						t.Errorf("%d %q", a.StatusCode, a.body)
					}
				}
			})
		}
		for round := range 8 {
			i := round % len(addrs)
			time.Sleep(500*time.Millisecond + time.Microsecond)
			stop[i]()
			time.Sleep(500*time.Millisecond + time.Microsecond)
			stop[i] = start[addrs[i]]()
		}
		close(done)
		wg.Wait()
		for _, s := range stop {
			s()
		}
		if requests.Load() < 5000 || !slices.Contains(b.sink.whys, retry.WhyUnsent) {
			t.Errorf("%d requests, decisions %v", requests.Load(), b.sink.whys)
		}
	})
}

// restartable serves addr until it is stopped, which closes its idle connections.
func (b *bed) restartable(addr string) (stop func()) {
	l := b.net.Listen(netip.MustParseAddrPort(addr))
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})}
	go func() { _ = s.Serve(l) }()
	return func() { _ = s.Shutdown(b.t.Context()) }
}
