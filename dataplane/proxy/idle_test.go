package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// tuned is onePool with the timeouts and limits of its rule changed.
func tuned(change func(*plan.Timeouts, *plan.Limits)) plan.Plan {
	p := onePool(backendAddr)
	r := &p.Routes[0].Rules[0]
	change(&r.Timeouts, &r.Limits)
	return p
}

// readsAll answers nothing.
func readsAll(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

const upload = "POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 1000000\r\n\r\n"

func TestTheRuleSaysHowLongAClientMayPauseInsideABody(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, readsAll)
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.RequestBodyIdle = 7 * time.Second }))
		c := b.dial()
		c.send(upload + "some")
		time.Sleep(6 * time.Second)
		c.send("more")
		began := time.Now()
		wantFailure(t, b, c.read("POST"), 408, proxy.ReasonRequestBodyTimeout)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("after %s, want 7s", took)
		}
	})
}

func TestWithoutAnIdleTimeoutABodyMayPauseForHours(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.RequestBodyIdle, t.ResponseHeader = 0, 0 }))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\na")
		time.Sleep(5 * time.Hour)
		c.send("b")
		if a := c.read("POST"); a.StatusCode != 200 || !strings.Contains(a.body, "body=ab\n") {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	})
}

func TestAClientSlowerThanTheMinimumRateIsCutAfterTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, readsAll)
		b.apply(tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MinRequestBodyRate = 240 }))
		c := b.dial()
		began := time.Now()
		c.send(upload)
		go func() {
			for range 100 { // 100 bytes a second
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, strings.Repeat("x", 100)); err != nil {
					return
				}
			}
		}()
		wantFailure(t, b, c.read("POST"), 408, proxy.ReasonRequestBodyTooSlow)
		// After the first byte, t seconds of waiting are too many when
		// 100 (t + 1) < 240 (t - 10): from 17.5 s on.
		if took := time.Since(began); took != 18500*time.Millisecond {
			t.Errorf("after %s, want 18.5s", took)
		}
		_ = c.Close()
		time.Sleep(2 * time.Second) // its writer notices
	})
}

func TestTheMinimumRateDoesNotCountTheTimeInWhichTheBackendTakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			time.Sleep(50 * time.Second)
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		b.apply(tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MinRequestBodyRate = 1 << 20 }))
		c := b.dial()
		c.send(upload)
		go c.stream(strings.Repeat("x", 1_000_000))
		if a := c.read("POST"); a.StatusCode != 200 {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	})
}

func TestAClientThatWaitsFor100IsNotSlow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			time.Sleep(55 * time.Second)
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = io.ReadFull(r, make([]byte, 4))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		b.apply(tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MinRequestBodyRate = 240 }))
		c := b.dial()
		if a := c.get("POST / HTTP/1.1", shopHost, "Content-Length: 4", "Expect: 100-continue"); a.StatusCode != 100 {
			t.Fatalf("%d", a.StatusCode)
		}
		time.Sleep(14 * time.Second) // beyond the first minute, within its own 15 s
		c.send("body")
		if a := c.read("POST"); a.StatusCode != 200 {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	})
}

// speaks answers with a head and then with a line every so often.
func speaks(head string, every time.Duration, lines int) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, head)
		for range lines {
			time.Sleep(every)
			if _, err := io.WriteString(c, "line\n"); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, r) // and then nothing more
	}
}

func TestABackendThatPausesTooLongInsideABodyIsCut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, speaks("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 19*time.Second, 3))
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.ResponseBodyIdle = 20 * time.Second }))
		began := time.Now()
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		if a.cut == nil || a.body != "line\nline\nline\n" {
			t.Errorf("%q, cut: %v", a.body, a.cut)
		}
		if took := time.Since(began); took != 77*time.Second {
			t.Errorf("after %s, want 77s", took)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonResponseBodyTimeout {
			t.Errorf("reason %s", r.Reason)
		}
	})
}

func TestAnEventStreamMayBeSilentForItsOwnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, speaks("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nConnection: close\r\n\r\n", 10*time.Minute, 3))
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.StreamIdle = 15 * time.Minute }))
		began := time.Now()
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		if a.cut == nil || a.body != "line\nline\nline\n" {
			t.Errorf("%q, cut: %v", a.body, a.cut)
		}
		if took := time.Since(began); took != 45*time.Minute {
			t.Errorf("after %s, want 45m", took)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonStreamIdle {
			t.Errorf("reason %s", r.Reason)
		}
	})
}

func TestInAStreamBothDirectionsTogetherAreSilentOrNot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, speaks("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0))
		b.apply(tuned(func(t *plan.Timeouts, l *plan.Limits) {
			t.StreamIdle, t.RequestBodyIdle, t.ResponseBodyIdle = time.Minute, 5*time.Second, 5*time.Second
			l.MinRequestBodyRate = 240
		}))
		c := b.dial()
		began := time.Now()
		c.send("POST /shop.Cart/Watch HTTP/1.1\r\n" + shopHost + "\r\nContent-Type: application/grpc+proto\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 10 { // the client speaks, the backend does not
			time.Sleep(50 * time.Second)
			c.send("1\r\nx\r\n")
		}
		if a := c.read("POST"); a.cut == nil {
			t.Errorf("%q and a clean end", a.body)
		}
		if took := time.Since(began); took != 560*time.Second {
			t.Errorf("after %s, want 560s", took)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonStreamIdle {
			t.Errorf("reason %s", r.Reason)
		}
	})
}

func TestAResponseThatSaysItIsTooLargeGets502(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "101")
			_, _ = io.WriteString(w, strings.Repeat("x", 101))
		})
		b.apply(tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MaxResponseBodyBytes = 100 }))
		c := b.dial()
		wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonResponseBodyTooLarge)
		if a := c.get("HEAD / HTTP/1.1", shopHost); a.StatusCode != 200 || a.ContentLength != 101 {
			t.Errorf("HEAD, which has no body: %d, length %d", a.StatusCode, a.ContentLength)
		}
	})
}

func TestAResponseThatTurnsOutTooLargeIsCutVisibly(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, _ *http.Request) {
			for range 11 {
				_, _ = io.WriteString(w, strings.Repeat("x", 10))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		})
		b.apply(tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MaxResponseBodyBytes = 100 }))
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		if a.cut == nil || len(a.body) > 100 {
			t.Errorf("%d bytes, cut: %v", len(a.body), a.cut)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonResponseBodyTooLarge {
			t.Errorf("reason %s", r.Reason)
		}
	})
}
