package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
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

const hedgeAfter = 100 * time.Millisecond

// hedging is retrying with hedges.
func hedging(addrs []string, change ...func(r *plan.Rule, p *plan.Policy)) plan.Plan {
	return retrying(addrs, append([]func(r *plan.Rule, p *plan.Policy){func(r *plan.Rule, _ *plan.Policy) {
		r.Retry.HedgeAfter, r.Retry.Backoff = hedgeAfter, 0
	}}, change...)...)
}

// slow is a backend that answers each request after a while, and notes what it
// has seen.
type slow struct {
	after  time.Duration
	answer string

	mu    sync.Mutex
	heads []string
	at    []time.Time
	gone  []time.Time // when its connection ended
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func (s *slow) serve(c net.Conn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		s.mu.Lock()
		if err != nil {
			s.gone = append(s.gone, time.Now())
			s.mu.Unlock()
			return
		}
		s.heads = append(s.heads, req.Method+" "+req.Header.Get("X-Ferrum-Attempt"))
		s.at = append(s.at, time.Now())
		s.mu.Unlock()
		_, _ = io.Copy(io.Discard, req.Body)
		if s.after > 0 {
			time.Sleep(s.after)
		}
		if s.answer == "" {
			return
		}
		if _, err = io.WriteString(c, s.answer); err != nil {
			s.mu.Lock()
			s.gone = append(s.gone, time.Now())
			s.mu.Unlock()
			return
		}
	}
}

// seen returns the methods and numbers of attempts of the requests that came.
func (s *slow) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.heads, ",")
}

// slowly serves the addresses of three, in order, as the scripts say.
func (b *bed) slowly(scripts ...*slow) {
	for i, s := range scripts {
		b.backend(three[i], s.serve)
		b.closers = append(b.closers, func() { time.Sleep(s.after) }) // it may not be done yet
	}
}

// atRest checks that no endpoint of the pool has a request in flight.
func (b *bed) atRest(p plan.Plan) {
	b.t.Helper()
	synctest.Wait()
	for _, e := range b.reg.Pool(p.Pools[0].Key).Endpoints() {
		if n := e.InFlight(); n != 0 {
			b.t.Errorf("%s has %d requests in flight", e.Addr, n)
		}
	}
}

func TestAHedgeIsSentAfterExactlyItsTimeAndTheFirstResponseIsTaken(t *testing.T) {
	for _, tc := range []struct {
		name        string
		first, then *slow
		took        time.Duration
		status      int
		body        string
		endpoint    int
		seen        [2]string
		attempts    int
		stopped     retry.Why
	}{
		{"in time", &slow{after: hedgeAfter - 1, answer: ok("first")}, &slow{answer: ok("second")},
			hedgeAfter - 1, 200, "first", 0, [2]string{"GET ", ""}, 1, retry.WhyFinal},
		{"the second is faster", &slow{after: time.Second, answer: ok("first")}, &slow{after: time.Millisecond, answer: ok("second")},
			hedgeAfter + time.Millisecond, 200, "second", 1, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"the first is faster", &slow{after: 2 * hedgeAfter, answer: ok("first")}, &slow{after: time.Second, answer: ok("second")},
			2 * hedgeAfter, 200, "first", 0, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"a 503 waits for the first", &slow{after: time.Second, answer: ok("first")}, &slow{answer: unavailable},
			time.Second, 200, "first", 0, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"a 503 waits for the second", &slow{after: 2 * hedgeAfter, answer: unavailable}, &slow{after: time.Second, answer: ok("second")},
			time.Second + hedgeAfter, 200, "second", 1, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"a reset waits for the second", &slow{after: 2 * hedgeAfter}, &slow{after: time.Second, answer: ok("second")},
			time.Second + hedgeAfter, 200, "second", 1, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"a 404 is a response", &slow{after: time.Second, answer: ok("first")}, &slow{answer: "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"},
			hedgeAfter, 404, "", 1, [2]string{"GET ", "GET 2"}, 2, retry.WhyHedge},
		{"both fail", &slow{after: 2 * hedgeAfter}, &slow{after: time.Second},
			time.Second + hedgeAfter, 502, "502 upstream_reset\n", 1, [2]string{"GET ", "GET 2"}, 2, retry.WhyAttempts},
		{"both fail, one with a response", &slow{after: 2 * hedgeAfter, answer: unavailable}, &slow{after: time.Second},
			time.Second + hedgeAfter, 503, "busy", 0, [2]string{"GET ", "GET 2"}, 2, retry.WhyAttempts},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.slowly(tc.first, tc.then)
				p := hedging(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Attempts = 1 })
				b.apply(p)
				began := time.Now()
				a := b.dial().get("GET / HTTP/1.1", shopHost)
				if took := time.Since(began); took != tc.took || a.StatusCode != tc.status || a.body != tc.body {
					t.Errorf("%d %q after %v", a.StatusCode, a.body, took)
				}
				if tc.first.seen() != tc.seen[0] || tc.then.seen() != tc.seen[1] {
					t.Errorf("the endpoints saw %q and %q", tc.first.seen(), tc.then.seen())
				}
				if tc.attempts == 2 && !tc.then.at[0].Equal(began.Add(hedgeAfter)) {
					t.Errorf("the hedge came after %v", tc.then.at[0].Sub(began))
				}
				if r := b.sink.last(t); r.Attempts != tc.attempts || r.Stopped != tc.stopped || r.Endpoint.String() != three[tc.endpoint] {
					t.Errorf("recorded %d attempts, %v, at %s", r.Attempts, r.Stopped, r.Endpoint)
				}
				b.atRest(p)
			})
		})
	}
}

func TestTheLoserIsCancelledAtOnceAndNotBlamed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var ended atomic.Int64
		began := time.Now()
		b.backend(three[0], func(_ net.Conn, r *bufio.Reader) {
			_, _ = io.Copy(io.Discard, r) // until the proxy closes
			ended.Store(int64(time.Since(began)))
		})
		b.backend(three[1], (&slow{answer: ok("second")}).serve)
		p := hedging(three[:2], func(_ *plan.Rule, p *plan.Policy) {
			p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: time.Minute, MaxEjection: time.Minute}
		})
		b.apply(p)
		c := b.dial()
		for range 3 {
			began = time.Now()
			ended.Store(0)
			if a := c.get("GET / HTTP/1.1", shopHost); a.body != "second" {
				t.Errorf("%d %q", a.StatusCode, a.body)
			}
			b.atRest(p)
			if at := time.Duration(ended.Load()); at != hedgeAfter {
				t.Errorf("the loser's connection ended after %v", at)
			}
		}
		for _, e := range proxy.ExplainPool(b.reg.Pool(p.Pools[0].Key)) {
			if e.State != "serving" {
				t.Errorf("%s is %s: %s", e.Address, e.State, e.Reason)
			}
		}
		b.wantWhys(retry.WhyHedge, retry.WhyHedge, retry.WhyHedge)
	})
}

func TestARequestIsNotHedgedWithoutABudgetOrAnEndpointOrAPlace(t *testing.T) {
	for why, change := range map[retry.Why]func(r *plan.Rule, p *plan.Policy){
		retry.WhyBudget:    func(_ *plan.Rule, p *plan.Policy) { p.RetryBudget = plan.RetryBudget{} },
		retry.WhyEndpoints: func(_ *plan.Rule, p *plan.Policy) { p.Breaker.MaxParallelRequests = 1 },
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			first, second := &slow{after: time.Second, answer: ok("first")}, &slow{answer: ok("second")}
			b.slowly(first, second)
			p := hedging(three[:2], change)
			b.apply(p)
			if a := b.dial().get("GET / HTTP/1.1", shopHost); a.body != "first" || second.seen() != "" {
				t.Errorf("%v: %q, and the second saw %q", why, a.body, second.seen())
			}
			if r := b.sink.last(t); r.Attempts != 1 || r.Stopped != retry.WhyFinal {
				t.Errorf("%v: %d attempts, %v", why, r.Attempts, r.Stopped)
			}
			b.wantWhys(why)
			b.atRest(p)
		})
	}
}

func TestOnlySafeRequestsWithoutABodyAreHedged(t *testing.T) {
	for raw, hedged := range map[string]bool{
		"GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n":                                              true,
		"HEAD / HTTP/1.1\r\n" + shopHost + "\r\n\r\n":                                             true,
		"OPTIONS / HTTP/1.1\r\n" + shopHost + "\r\n\r\n":                                          true,
		"GET / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\nhi":                       false,
		"GET / HTTP/1.1\r\n" + shopHost + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": false,
		"PUT / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 0\r\n\r\n":                         false,
		"DELETE / HTTP/1.1\r\n" + shopHost + "\r\n\r\n":                                           false,
		"POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 0\r\n\r\n":                        false,
		"FROB / HTTP/1.1\r\n" + shopHost + "\r\n\r\n":                                             false,
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			second := &slow{answer: ok("")}
			b.slowly(&slow{after: time.Second, answer: ok("")}, second)
			b.apply(hedging(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryAny }))
			c := b.dial()
			c.send(raw)
			method, _, _ := strings.Cut(raw, " ")
			c.read(method)
			if got := second.seen() != ""; got != hedged {
				t.Errorf("%q: hedged %t", raw, got)
			}
		})
	}
}

func TestAClientThatGoesCancelsBothAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var open atomic.Int64
		for _, a := range three[:2] {
			b.backend(a, func(_ net.Conn, r *bufio.Reader) {
				open.Add(1)
				_, _ = io.Copy(io.Discard, r)
				open.Add(-1)
			})
		}
		p := hedging(three[:2])
		b.apply(p)
		c := b.dial()
		c.send(get)
		time.Sleep(2 * hedgeAfter)
		if n := open.Load(); n != 2 {
			t.Fatalf("%d attempts are under way", n)
		}
		_ = c.Close()
		time.Sleep(time.Second)
		b.atRest(p)
		if n := open.Load(); n != 0 {
			t.Errorf("%d attempts are left", n)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone || r.Attempts != 2 {
			t.Errorf("recorded %v, %d attempts", r.Reason, r.Attempts)
		}
	})
}

func TestADrainCutsBothAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.slowly(&slow{after: time.Minute, answer: ok("")}, &slow{after: time.Minute, answer: ok("")})
		p := hedging(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.TotalTimeout = 0 })
		b.apply(p)
		b.dial().send(get)
		time.Sleep(2 * hedgeAfter)
		b.drain()
		time.Sleep(time.Second)
		b.atRest(p)
		if r := b.sink.last(t); r.Reason != proxy.ReasonShutdown {
			t.Errorf("recorded %v", r.Reason)
		}
	})
}

func TestTheTimeoutsOfARequestEndBothAttempts(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *plan.Rule, p *plan.Policy)
		took   time.Duration
		reason proxy.Reason
	}{
		"total":   {func(r *plan.Rule, _ *plan.Policy) { r.Retry.TotalTimeout = time.Second }, time.Second, proxy.ReasonRetryTimeout},
		"request": {func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.Request = time.Second }, time.Second, proxy.ReasonRequestTimeout},
		"attempt": {func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.BackendRequest = time.Second }, time.Second + hedgeAfter, proxy.ReasonBackendRequestTimeout},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.slowly(&slow{after: time.Minute, answer: ok("")}, &slow{after: time.Minute, answer: ok("")})
			p := hedging(three[:2], tc.change)
			b.apply(p)
			began := time.Now()
			a := b.dial().get("GET / HTTP/1.1", shopHost)
			if took := time.Since(began); a.StatusCode != 504 || took != tc.took {
				t.Errorf("%s: %d after %v", name, a.StatusCode, took)
			}
			if r := b.sink.last(t); r.Reason != tc.reason {
				t.Errorf("%s: %v", name, r.Reason)
			}
			b.atRest(p)
		})
	}
}

func TestAnInterimResponseWinsTheRaceAndIsForwarded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.slowly(&slow{after: time.Second, answer: ok("first")})
		b.backend(three[1], func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
				time.Sleep(2 * time.Second)
				_, _ = io.WriteString(c, ok("second"))
			}
		})
		b.apply(hedging(three[:2]))
		c := b.dial()
		c.send(get)
		hint, err := http.ReadResponse(c.r, nil)
		if err != nil || hint.StatusCode != 103 {
			t.Fatal(hint, err)
		}
		if a := c.read("GET"); a.body != "second" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	})
}

// A head that had been read was read once more when it came right behind a 1xx:
// the body was taken for the head of the response.
func TestAResponseRightBehindAnInterimOneIsReadOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
		b.apply(hedging([]string{backendAddr}))
		c := b.dial()
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 103 {
			t.Fatalf("%d %q", a.StatusCode, a.body)
		}
		if a := c.read("GET"); a.StatusCode != 200 || a.body != "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
		if a := b.dial().get("GET / HTTP/1.0", shopHost); a.StatusCode != 200 || a.body != "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
			t.Errorf("HTTP/1.0 got %d %q", a.StatusCode, a.body)
		}
	})
}

// A 1xx response that the client does not get ended the race all the same.
func TestAnInterimResponseThatIsNotForwardedDoesNotEndTheRace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				_, _ = io.Copy(io.Discard, r)
			}
		})
		b.backend(three[1], (&slow{answer: ok("second")}).serve)
		b.apply(hedging(three[:2]))
		if a := b.dial().get("GET / HTTP/1.1", shopHost); a.body != "second" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	})
}

// The connect of an attempt that had been overtaken said nothing when it failed,
// so that an endpoint that answered no connect was never ejected.
func TestAConnectThatFailsSpeaksAgainstItsEndpointWhoeverAnswersMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.restart(func(c *proxy.Config) {
			dial := c.Dial
			c.Dial = func(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
				if addr.String() == three[0] {
					time.Sleep(3 * time.Second)
					return nil, syscall.ETIMEDOUT
				}
				return dial(addr, timeout)
			}
		})
		b.backend(three[1], (&slow{answer: ok("second")}).serve)
		p := hedging(three[:2], func(_ *plan.Rule, p *plan.Policy) {
			p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: time.Minute, MaxEjection: time.Minute, MaxEjectedPercent: 100}
		})
		b.apply(p)
		if a := b.dial().get("GET / HTTP/1.1", shopHost); a.body != "second" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
		time.Sleep(4 * time.Second)
		b.atRest(p)
		if e := proxy.ExplainPool(b.reg.Pool(p.Pools[0].Key))[0]; e.State != "ejected" {
			t.Errorf("%s is %s", e.Address, e.State)
		}
	})
}

func TestARaceGoesOnToAThirdEndpointWhenBothHaveFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		third := &slow{answer: ok("third")}
		b.slowly(&slow{after: 2 * hedgeAfter}, &slow{answer: unavailable}, third)
		p := hedging(three)
		b.apply(p)
		c := b.dial()
		if a := c.get("GET / HTTP/1.1", shopHost); a.body != "third" || third.seen() != "GET 3" {
			t.Errorf("%d %q: the third saw %q", a.StatusCode, a.body, third.seen())
		}
		b.wantWhys(retry.WhyHedge, retry.WhyStatus)
		b.atRest(p)
	})
}
