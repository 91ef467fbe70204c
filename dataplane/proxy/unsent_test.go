package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// An endpoint answered and took so little of the request that its body was never
// begun to be sent. The answer was passed on and the client's connection kept:
// what the client then sent of the body was read as its next request.
func TestABodyThatNobodyReadIsNotTheNextRequest(t *testing.T) {
	const tail = "Content-Length: 100\r\n\r\n"
	head := "POST / HTTP/1.1\r\n" + shopHost + "\r\n"
	for i := range 8 {
		head += fmt.Sprintf("X-%d: %s\r\n", i, strings.Repeat("x", 7<<10))
	}
	head += "X-Pad: " + strings.Repeat("p", memnet.BufferSize-len(head)-len("X-Pad: \r\n")-len(tail)-10) + "\r\n" + tail
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			time.Sleep(5 * time.Minute)
		})
		b.apply(tuned(func(*plan.Timeouts, *plan.Limits) {}))
		c := b.dial()
		c.send(head)
		if a := c.read("POST"); a.StatusCode != 200 || !a.Close {
			t.Errorf("%d %q, to be closed: %t", a.StatusCode, a.body, a.Close)
		}
		go c.stream(get + strings.Repeat("x", 100-len(get)))
		if !c.closed() {
			t.Error("the connection stays open")
		}
		if r := b.sink.last(t); len(b.sink.records) != 1 || r.Reason != proxy.ReasonOK {
			t.Errorf("%d requests, the last one %s", len(b.sink.records), r.Reason)
		}
		time.Sleep(5 * time.Minute) // the endpoint is done
	})
}

// A request waited for a place in the pool past the total timeout of its policy,
// was then sent, and answered with 504 before the endpoint could say a word.
func TestNoAttemptBeginsAfterTheTotalTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		asked := 0
		b.httpBackend(backendAddr, func(http.ResponseWriter, *http.Request) {
			asked++
			time.Sleep(8 * time.Second)
		})
		b.apply(retrying([]string{backendAddr}, func(_ *plan.Rule, p *plan.Policy) {
			p.Breaker = plan.CircuitBreaker{MaxParallelRequests: 1, MaxPendingRequests: 1}
		}))
		first, second := b.dial(), b.dial()
		first.send(post)
		synctest.Wait()
		if a := second.get("GET / HTTP/1.1", shopHost); a.StatusCode != 504 {
			t.Errorf("status %d", a.StatusCode)
		}
		if a := first.read("POST"); a.StatusCode != 200 || asked != 1 {
			t.Errorf("%d, and %d requests came", a.StatusCode, asked)
		}
		b.sink.last(t)
		if r := b.sink.records[0]; r.Reason != proxy.ReasonRetryTimeout || r.Duration != 5*time.Second || r.Attempts != 0 {
			t.Errorf("%s after %d attempts and %s", r.Reason, r.Attempts, r.Duration)
		}
	})
}

// An endpoint that stops to take a body was waited for as if it had it whole: for
// ever where the rule sets no bound to that.
func TestAnEndpointThatTakesNoMoreOfABodyEndsTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(_ net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			time.Sleep(10 * time.Minute)
		})
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.ResponseHeader = 0 }))
		c := b.dial()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Minute))
		go c.stream("POST / HTTP/1.1\r\n"+shopHost+"\r\nContent-Length: 400000\r\n\r\n", strings.Repeat("x", 400000))
		r := wantFailure(t, b, c.read("POST"), 504, proxy.ReasonResponseHeaderTimeout)
		if r.Duration > time.Minute+2*time.Second {
			t.Errorf("after %s", r.Duration)
		}
		time.Sleep(10 * time.Minute) // the endpoint is done
	})
}

// counted is a connection that counts as open until it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// A process that was out of descriptors answered with 503 while some of them were
// those of connections to endpoints that nobody used.
func TestAnIdleConnectionIsClosedForOneThatIsNeeded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var open atomic.Int64
		b.restart(func(c *proxy.Config) {
			c.Dial = func(a netip.AddrPort, _ time.Duration) (net.Conn, error) {
				if open.Add(1) > 1 {
					open.Add(-1)
					return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
				}
				nc, err := b.net.Dial(a)
				return &counted{Conn: nc, open: &open}, err
			}
		})
		b.namedBackends(three[:2]...)
		b.apply(edit(onePool(three[:2]...), func(_ *plan.Rule, p *plan.Policy) { p.LoadBalancing.Balancer = plan.RoundRobin }))
		c := b.dial()
		for i := range 4 {
			if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
				t.Errorf("request %d: %d %q", i, a.StatusCode, a.body)
			}
		}
	})
}

// With 12 endpoints that hang at the connect, 11 were tried for a client that had
// gone before the second one.
func TestAClientThatHasGoneIsConnectedForNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		addrs := make([]string, 12)
		for i := range addrs {
			addrs[i] = fmt.Sprintf("10.0.1.%d:8080", i+1)
		}
		b.restart(func(c *proxy.Config) {
			c.Dial = func(_ netip.AddrPort, timeout time.Duration) (net.Conn, error) {
				time.Sleep(timeout)
				return nil, os.ErrDeadlineExceeded
			}
		})
		b.apply(onePool(addrs...))
		c := b.dial()
		c.send(get)
		time.Sleep(500 * time.Millisecond)
		_ = c.Close()
		time.Sleep(time.Minute)
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone || r.Attempts != 1 {
			t.Errorf("%s after %d attempts and %s", r.Reason, r.Attempts, r.Duration)
		}
	})
}

// A PUT of a client with a slow link was cut after the total timeout of the policy,
// though its first attempt was under way and its body too large to be sent again.
// When that was mended, it was cut still if an endpoint had refused it before.
func TestASlowUploadIsNotCutByTheTotalTimeoutOfRetries(t *testing.T) {
	for name, pieces := range map[string]int{"kept": 10, "too large to be kept": 200} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
					n, err := io.Copy(io.Discard, r.Body)
					time.Sleep(4 * time.Second) // it has 5
					fmt.Fprint(w, n, err)
				})
				b.httpBackend("10.0.0.3:8080", func(http.ResponseWriter, *http.Request) { t.Error("it was sent again") })
				b.apply(retrying([]string{"10.0.0.2:8080", backendAddr, "10.0.0.3:8080"}, func(r *plan.Rule, _ *plan.Policy) {
					r.Retry.Methods = plan.RetryIdempotent
				}))
				c := b.dial()
				const piece = 1000
				c.send(fmt.Sprintf("PUT / HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n", shopHost, pieces*piece))
				go func() {
					for range pieces {
						time.Sleep(time.Second)
						c.stream(strings.Repeat("x", piece))
					}
				}()
				if a := c.read("PUT"); a.StatusCode != 200 || a.body != fmt.Sprint(pieces*piece, nil) {
					t.Errorf("%d %q", a.StatusCode, a.body)
				}
			})
		})
	}
}

// A client that had sent its request whole, and said that it sends no more, got no
// answer when the first endpoint refused the connection.
func TestAHalfClosedClientIsAnsweredThoughAnEndpointRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		})
		b.apply(edit(onePool("10.0.0.2:8080", backendAddr), func(_ *plan.Rule, p *plan.Policy) {
			p.LoadBalancing.Balancer = plan.FirstHealthy
		}))
		for method, size := range map[string]int{"PUT": 20000, "GET": 0} {
			c := b.dial()
			c.send(fmt.Sprintf("%s / HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s", method, shopHost, size, strings.Repeat("x", size)))
			_ = c.CloseWrite()
			if a := c.read(method); a.StatusCode != 200 || a.body != fmt.Sprint(size, nil) {
				t.Errorf("%s: %d %q", method, a.StatusCode, a.body)
			}
		}
	})
}
