package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// three are the addresses of a pool that is tried in this order.
var three = []string{"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"}

// retrying is a plan of a pool that is tried in order of address, without health
// checks, under a policy of retries.
func retrying(addrs []string, change ...func(r *plan.Rule, p *plan.Policy)) plan.Plan {
	return edit(onePool(addrs...), func(r *plan.Rule, p *plan.Policy) {
		p.LoadBalancing.Balancer = plan.FirstHealthy
		r.Retry = plan.Retry{
			Attempts: 2, On: plan.RetryReset | plan.RetryCodes, TotalTimeout: 5 * time.Second,
			Backoff: 50 * time.Millisecond, MaxBackoff: time.Second, MaxBodyBytes: 64 << 10, HonorRetryAfter: true,
		}
		r.Retry.Codes.Add(502, 504)
		for _, c := range change {
			c(r, p)
		}
	})
}

// answering are scripts of backends that read a request, give an answer and close
// the connection.
func answering(answer string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, answer)
		}
	}
}

const (
	get         = "GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n"
	post        = "POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\nhi"
	unavailable = "HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbusy"
)

// wantWhys checks which decisions were counted since the last time.
func (b *bed) wantWhys(want ...retry.Why) {
	b.t.Helper()
	synctest.Wait()
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	if !slices.Equal(b.sink.whys, want) {
		b.t.Errorf("counted %v, want %v", b.sink.whys, want)
	}
	b.sink.whys = nil
}

func TestAnEndpointThatRefusesCostsNoRequestWhateverTheMethodOrPolicy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(three[2])
		b.apply(retrying(three, func(r *plan.Rule, _ *plan.Policy) { r.Retry = plan.Retry{} }))
		c := b.dial()
		for _, raw := range []string{get, post, strings.Replace(post, "POST", "FROB", 1)} {
			c.send(raw)
			if a := c.read("GET"); a.StatusCode != 200 || a.body != three[2] {
				t.Errorf("%d %q", a.StatusCode, a.body)
			}
			if r := b.sink.last(t); r.Attempts != 3 || r.Endpoint.String() != three[2] || r.Stopped != retry.WhyUnsent {
				t.Errorf("%d attempts, the last at %s, %s", r.Attempts, r.Endpoint, r.Stopped)
			}
			b.wantWhys(retry.WhyUnsent, retry.WhyUnsent)
		}
	})
}

func TestEachEndpointIsTriedOnceAndTheLastFailureIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(retrying(three))
		r := wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonConnectRefused)
		if r.Attempts != 3 || r.Stopped != retry.WhyEndpoints {
			t.Errorf("%d attempts, stopped by %s", r.Attempts, r.Stopped)
		}
		b.wantWhys(retry.WhyUnsent, retry.WhyUnsent, retry.WhyEndpoints)
	})
}

func TestAStatusOfThePolicyIsTriedElsewhereAndTheLastOneIsPassedThrough(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var marks []string
		for i, addr := range three {
			b.backend(addr, func(c net.Conn, r *bufio.Reader) {
				for req := range requests(r) {
					marks = append(marks, strings.Join(req.Header["X-Ferrum-Attempt"], ","))
					fmt.Fprintf(c, "HTTP/1.1 503 x\r\nX-From: %d\r\nContent-Length: 4\r\n\r\nbusy", i)
				}
			})
		}
		b.apply(retrying(three))
		c := b.dial()
		for range 2 { // the second time over kept connections
			a := c.get("GET / HTTP/1.1", shopHost, "X-Ferrum-Attempt: 9", "X_Ferrum_Attempt: 9")
			if a.StatusCode != 503 || a.body != "busy" || a.Header.Get("X-From") != "2" {
				t.Errorf("%d %q from %s", a.StatusCode, a.body, a.Header.Get("X-From"))
			}
			if r := b.sink.last(t); r.Attempts != 3 || r.Reason != proxy.ReasonOK || r.Stopped != retry.WhyAttempts {
				t.Errorf("%d attempts, %s, stopped by %s", r.Attempts, r.Reason, r.Stopped)
			}
			b.wantWhys(retry.WhyStatus, retry.WhyStatus, retry.WhyAttempts)
		}
		if want := []string{"", "2", "3", "", "2", "3"}; !slices.Equal(marks, want) {
			t.Errorf("told of attempts %q, want %q", marks, want)
		}
		for _, e := range b.reg.Pools()[0].Endpoints() {
			if e.Idle() != 1 || e.InFlight() != 0 {
				t.Errorf("%s: %d connections kept, %d requests in flight", e.Addr, e.Idle(), e.InFlight())
			}
		}
	})
}

func TestAPolicyDecidesAboutWhatMayHaveBeenProcessed(t *testing.T) {
	reset := func(c net.Conn, r *bufio.Reader) { answering("")(c, r) }
	for _, c := range []struct {
		name    string
		first   func(net.Conn, *bufio.Reader)
		request string
		change  func(r *plan.Rule, p *plan.Policy)
		status  int
		why     retry.Why
	}{
		{"a reset", reset, get, nil, 200, retry.WhyReset},
		{"a reset, not asked for", reset, get, func(r *plan.Rule, _ *plan.Policy) { r.Retry.On = plan.RetryCodes }, 502, retry.WhyPolicy},
		{"a reset, no policy", reset, get, func(r *plan.Rule, _ *plan.Policy) { r.Retry = plan.Retry{} }, 502, retry.WhyPolicy},
		{"a reset of a POST", reset, post, nil, 502, retry.WhyMethod},
		{"a reset of any", reset, post, func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryAny }, 200, retry.WhyReset},
		{"a status", answering(unavailable), get, nil, 200, retry.WhyStatus},
		{"a status of a POST", answering(unavailable), post, nil, 503, retry.WhyMethod},
		{"another status", answering("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), get, nil, 500, retry.WhyFinal},
		{"no HTTP", answering("SSH-2.0-x\r\n\r\n"), get, nil, 502, retry.WhyFinal},
		{"no budget", answering(unavailable), get, func(_ *plan.Rule, p *plan.Policy) { p.RetryBudget = plan.RetryBudget{} }, 503, retry.WhyBudget},
		{"a body that was cut", answering("HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\ncut"), get, nil, 200, retry.WhyFinal},
		{"early hints", answering("HTTP/1.1 103 x\r\nLink: </a>\r\n\r\n" + unavailable), get, nil, 103, retry.WhyCommitted},
		{"hints that are not passed on", answering("HTTP/1.1 103 x\r\n\r\n" + unavailable), strings.Replace(get, "1.1", "1.0", 1), nil, 200, retry.WhyStatus},
		{"a longer wait than there is time", answering(strings.Replace(unavailable, "\r\n\r\n", "\r\nRetry-After: 6\r\n\r\n", 1)), get, nil, 503, retry.WhyRetryAfter},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.backend(three[0], c.first)
				b.namedBackends(three[1])
				change := c.change
				if change == nil {
					change = func(*plan.Rule, *plan.Policy) {}
				}
				b.apply(retrying(three[:2], change))
				p := b.dial()
				p.send(c.request)
				if a := p.read("GET"); a.StatusCode != c.status {
					t.Errorf("status %d, want %d", a.StatusCode, c.status)
				}
				if r := b.sink.last(t); r.Stopped != c.why || (r.Attempts == 2) != c.why.Again() {
					t.Errorf("%d attempts, %s, want %s", r.Attempts, r.Stopped, c.why)
				}
			})
		})
	}
}

func TestRetryAfterIsWaitedForAndCountsAgainstTheTotal(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], answering(strings.Replace(unavailable, "\r\n\r\n", "\r\nRetry-After: 4\r\n\r\n", 1)))
		b.backend(three[1], answering(strings.Replace(unavailable, "\r\n\r\n", "\r\nRetry-After: 1\r\n\r\n", 1)))
		b.namedBackends(three[2])
		b.apply(retrying(three))
		began := time.Now()
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		if took := time.Since(began); a.StatusCode != 503 || took != 4*time.Second {
			t.Errorf("%d after %s", a.StatusCode, took)
		}
		b.wantWhys(retry.WhyStatus, retry.WhyRetryAfter)
	})
}

func TestTheTotalTimeoutCutsARunningAttemptOfARequestThatThePolicyIsFor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
		b.apply(retrying(three[:1], func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.ResponseHeader = 8 * time.Second }))
		r := wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 504, proxy.ReasonRetryTimeout)
		if r.Attempts != 1 || r.Duration != 5*time.Second {
			t.Errorf("%d attempts in %s", r.Attempts, r.Duration)
		}
		c := b.dial()
		c.send(post)
		began := time.Now()
		wantFailure(t, b, c.read("POST"), 504, proxy.ReasonResponseHeaderTimeout)
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("a POST was cut after %s", took)
		}
	})
}

func TestAnAttemptHasATimeoutOfItsOwn(t *testing.T) {
	slow := func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.Copy(io.Discard, r)
	}
	trickle := func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nabc")
		_, _ = io.Copy(io.Discard, r)
	}
	second := func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.BackendRequest = time.Second }
	t.Run("before the head another one follows", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(three[0], slow)
			b.namedBackends(three[1])
			b.apply(retrying(three[:2], second))
			if a := b.dial().get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
				t.Errorf("status %d", a.StatusCode)
			}
			if r := b.sink.last(t); r.Duration < time.Second || r.Duration > 1100*time.Millisecond || r.Stopped != retry.WhyTimeout {
				t.Errorf("took %s, %s", r.Duration, r.Stopped)
			}
		})
	})
	t.Run("of a POST it is the end", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(three[0], slow)
			b.namedBackends(three[1])
			b.apply(retrying(three[:2], second))
			c := b.dial()
			c.send(post)
			if r := wantFailure(t, b, c.read("POST"), 504, proxy.ReasonBackendRequestTimeout); r.Attempts != 1 {
				t.Errorf("%d attempts", r.Attempts)
			}
		})
	})
	t.Run("it ends with the response", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(three[0], trickle)
			b.namedBackends(three[1])
			b.apply(retrying(three[:2], second))
			if a := b.dial().get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 || a.cut == nil {
				t.Errorf("%d %q, whole", a.StatusCode, a.body)
			}
			if r := b.sink.last(t); r.Reason != proxy.ReasonBackendRequestTimeout || r.Duration != time.Second {
				t.Errorf("%s after %s", r.Reason, r.Duration)
			}
		})
	})
}

func TestAClientThatGoesDuringABackoffEndsTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], answering(strings.Replace(unavailable, "\r\n\r\n", "\r\nRetry-After: 4\r\n\r\n", 1)))
		b.namedBackends(three[1])
		b.apply(retrying(three[:2]))
		c := b.dial()
		c.send(get)
		time.Sleep(time.Second / 2)
		_ = c.Close()
		time.Sleep(time.Second)
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone || r.Attempts != 1 || r.Endpoint.String() != three[0] {
			t.Errorf("%s after %d attempts, at %s", r.Reason, r.Attempts, r.Endpoint)
		}
	})
}

func TestAShortageOfOurOwnIsNotTheEndpointsFault(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS} {
		inBubble(t, func(t *testing.T, b *bed) {
			dials := 0
			b.restart(func(c *proxy.Config) {
				c.Dial = func(netip.AddrPort, time.Duration) (net.Conn, error) {
					dials++
					return nil, &net.OpError{Op: "dial", Err: errno}
				}
			})
			b.apply(retrying(three))
			wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonLocalShortage)
			if dials != 1 {
				t.Errorf("%s: %d attempts", errno, dials)
			}
			b.wantWhys()
		})
	}
}

// A body that is still on its way when the first endpoint fails is sent again
// whole, as long as it was small enough to be kept.
func TestABodyThatComesInPiecesIsKeptForAsLongAsItMayBeNeeded(t *testing.T) {
	piece := strings.Repeat("x", 10<<10)
	for _, c := range []struct {
		name   string
		pieces int
		change func(r *plan.Rule, p *plan.Policy)
		why    retry.Why
	}{
		{"small", 5, func(*plan.Rule, *plan.Policy) {}, retry.WhyReset},
		{"too large", 8, func(*plan.Rule, *plan.Policy) {}, retry.WhyBody},
		{"none is kept", 5, func(r *plan.Rule, _ *plan.Policy) { r.Retry.MaxBodyBytes = 0 }, retry.WhyBody},
		{"not wanted", 5, func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetrySafe }, retry.WhyBody},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %t", c.name, chunked), func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bed) {
					var got atomic.Int64
					b.backend(three[0], answering(""))
					b.httpBackend(three[1], func(_ http.ResponseWriter, r *http.Request) {
						n, err := io.Copy(io.Discard, r.Body)
						if err != nil {
							t.Error(err)
						}
						got.Store(n)
					})
					b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryIdempotent }, c.change))
					p := b.dial()
					head, frame := fmt.Sprintf("Content-Length: %d", c.pieces*len(piece)), "%s"
					if chunked {
						head, frame = "Transfer-Encoding: chunked", "2800\r\n%s\r\n"
					}
					p.send("PUT / HTTP/1.1\r\n" + shopHost + "\r\n" + head + "\r\n\r\n")
					for range c.pieces {
						time.Sleep(time.Second / 10)
						p.send(fmt.Sprintf(frame, piece))
					}
					if chunked {
						p.send("0\r\n\r\n")
					}
					a := p.read("PUT")
					if want := c.why.Again(); (a.StatusCode == 200) != want || want && got.Load() != int64(c.pieces*len(piece)) {
						t.Errorf("%d, the backend got %d bytes", a.StatusCode, got.Load())
					}
					b.wantWhys(c.why)
					if now, high, _ := b.proxy.KeptBytes(); now != 0 || (high > 0) != (c.why.Again() || c.name == "too large" && chunked) {
						t.Errorf("%d bytes are held, at most %d were", now, high)
					}
				})
			})
		}
	}
}

func TestABodyIsLostWhenThereIsNoMemoryToKeepIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.restart(func(c *proxy.Config) { c.KeepBytes = 32 << 10 })
		b.backend(three[0], answering(""))
		b.namedBackends(three[1])
		b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryIdempotent }))
		for _, c := range []struct {
			pieces int
			why    retry.Why
		}{{3, retry.WhyReset}, {5, retry.WhyBody}, {3, retry.WhyReset}} {
			p := b.dial()
			p.send(fmt.Sprintf("PUT / HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n", shopHost, c.pieces*10<<10))
			for range c.pieces {
				time.Sleep(time.Second / 10)
				p.send(strings.Repeat("x", 10<<10))
			}
			p.read("PUT")
			b.wantWhys(c.why)
			if now, high, bound := b.proxy.KeptBytes(); now != 0 || high > bound {
				t.Errorf("%d bytes are held, at most %d of %d were", now, high, bound)
			}
		}
	})
}

// unavailableEarly answers before it has read the body.
func unavailableEarly(c net.Conn, r *bufio.Reader) {
	_, _ = http.ReadRequest(r)
	_, _ = io.WriteString(c, unavailable)
	_, _ = io.Copy(io.Discard, r)
}

func TestABodyThatWasNotAskedForYetIsAskedForByTheNextEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], unavailableEarly)
		b.httpBackend(three[1], echo)
		b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryAny }))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		if a := c.read("POST"); a.StatusCode != 100 {
			t.Fatalf("status %d", a.StatusCode)
		}
		c.send("hi")
		if a := c.read("POST"); a.StatusCode != 200 {
			t.Errorf("status %d", a.StatusCode)
		}
		b.wantWhys(retry.WhyStatus)
	})
}

// What was read of the body so far is kept, and the rest is still to come.
func TestAnEarlyAnswerDuringAnUploadIsTriedElsewhereWithWhatIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(three[0], unavailableEarly)
		b.httpBackend(three[1], echo)
		b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Retry.Methods = plan.RetryAny }))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 6\r\n\r\nab")
		time.Sleep(2 * time.Second)
		c.send("cd")
		time.Sleep(time.Second)
		c.send("ef")
		if a := c.read("POST"); a.StatusCode != 200 {
			t.Errorf("status %d", a.StatusCode)
		}
		b.wantWhys(retry.WhyStatus)
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 && a.StatusCode != 503 {
			t.Errorf("the next request on the connection got %d", a.StatusCode)
		}
	})
}

func TestEachAttemptSpeaksForOrAgainstItsEndpoint(t *testing.T) {
	stale := func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
		_, _ = http.ReadRequest(r) // and there it hangs up
	}
	for _, c := range []struct {
		name    string
		first   func(net.Conn, *bufio.Reader) // nil: it refuses
		ejected int
	}{{"refuses", nil, 1}, {"unavailable", answering(unavailable), 1}, {"resets", answering(""), 1}, {"hangs up when idle", stale, 0}} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				if c.first != nil {
					b.backend(three[0], c.first)
				}
				b.namedBackends(three[1])
				b.apply(retrying(three[:2], func(_ *plan.Rule, p *plan.Policy) {
					p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: time.Minute, MaxEjection: time.Minute, MaxEjectedPercent: 50}
					p.Passive.Statuses.Add(502, 504)
				}))
				p := b.dial()
				for range 6 {
					if a := p.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
						t.Errorf("status %d", a.StatusCode)
					}
					synctest.Wait()
				}
				if n := b.reg.Pools()[0].Health().Ejected; n != c.ejected {
					t.Errorf("%d endpoints are ejected", n)
				}
			})
		})
	}
}

func TestASessionMovesToTheEndpointThatAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		stop := b.restartable(three[0])
		b.namedBackends(three[1])
		b.apply(retrying(three[:2], func(r *plan.Rule, _ *plan.Policy) { r.Session = plan.Session{Cookie: "ferrum", Key: [32]byte{1}} }))
		c := b.dial()
		_, cookie := c.begin()
		if a := c.get("GET / HTTP/1.1", shopHost, "Cookie: "+cookie); a.body != "" || a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%q is not of the session's endpoint, or a new one begins", a.body)
		}
		stop()
		endpoint, next := c.wantNew(cookie)
		if endpoint != three[1] {
			t.Errorf("it went to %s", endpoint)
		}
		c.wantStay(endpoint, next)
	})
}
