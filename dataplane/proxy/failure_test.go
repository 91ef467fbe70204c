package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// wantFailure checks the answer of a failure and its record.
func wantFailure(t *testing.T, b *bed, a answer, status int, reason proxy.Reason) proxy.Record {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("status %d, want %d (%q)", a.StatusCode, status, a.body)
	}
	if want := fmt.Sprintf("%d %s\n", status, reason); a.body != want {
		t.Errorf("body %q, want %q", a.body, want)
	}
	if ps := a.Header.Get("Proxy-Status"); !strings.Contains(ps, "details=\""+reason.String()+"\"") {
		t.Errorf("Proxy-Status is %q", ps)
	}
	if a.Header.Get("X-Request-Id") == "" {
		t.Error("the answer has no X-Request-ID")
	}
	r := b.sink.last(t)
	if r.Reason != reason || r.Status != status {
		t.Errorf("recorded %d %s (%s), want %d %s", r.Status, r.Reason, r.Detail, status, reason)
	}
	return r
}

func TestBeforeTheFirstTableEveryRequestGets503WithRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		wantFailure(t, b, a, 503, proxy.ReasonNoTable)
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
}

func TestAnUnknownHostGets404AndKeepsItsConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		wantFailure(t, b, c.get("GET / HTTP/1.1", "Host: other.example.com"), 404, proxy.ReasonNoRoute)
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
			t.Errorf("the next request got %d", a.StatusCode)
		}
	})
}

func TestAMalformedRequestGets400AndAClosedConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		r := wantFailure(t, b, c.read("GET"), 400, proxy.ReasonMalformedRequest)
		if r.Detail == "" || !c.closed() {
			t.Errorf("detail %q; or the connection stays open", r.Detail)
		}
	})
}

func TestATooLargeContentLengthGets413AtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 1048577\r\n\r\nfirst bytes")
		r := wantFailure(t, b, c.read("POST"), 413, proxy.ReasonRequestBodyTooLarge)
		if r.Endpoint.IsValid() || !c.closed() {
			t.Error("an endpoint was asked, or the connection stays open")
		}
	})
}

func TestAChunkedBodyIsCutWhenItPassesTheCap(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var got atomic.Int64
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			got.Store(n)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		go func() {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\n"+shopHost+"\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 40 {
				if _, err := io.WriteString(c, "10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n"); err != nil {
					return
				}
			}
		}()
		wantFailure(t, b, c.read("POST"), 413, proxy.ReasonRequestBodyTooLarge)
		if n := got.Load(); n > 1<<20 {
			t.Errorf("the backend got %d bytes", n)
		}
	})
}

func TestARefusedConnectionGets502(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(onePool(backendAddr))
		c := b.dial()
		r := wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonConnectRefused)
		if r.Endpoint.String() != backendAddr || r.Attempts != 1 {
			t.Errorf("record: %+v", r)
		}
		if r.Reason.Side() != proxy.SideUpstream {
			t.Errorf("side %s", r.Reason.Side())
		}
	})
}

func TestABackendWithoutHeadersInTimeGets504(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
		b.apply(onePool(backendAddr))
		began := time.Now()
		wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 504, proxy.ReasonResponseHeaderTimeout)
		if took := time.Since(began); took != 60*time.Second {
			t.Errorf("after %s, want 60s", took)
		}
	})
}

func TestTheRequestTimeoutBoundsTheWholeExchange(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				_, _ = io.WriteString(w, "begun")
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-time.After(time.Minute):
			case <-r.Context().Done():
			}
		})
		p := onePool(backendAddr)
		p.Routes[0].Rules[0].Timeouts.Request = 7 * time.Second
		b.apply(p)
		began := time.Now()
		wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 504, proxy.ReasonRequestTimeout)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("after %s, want 7s", took)
		}
		began = time.Now()
		a := b.dial().get("GET /body HTTP/1.1", shopHost)
		if a.StatusCode != 200 || a.body != "begun" || a.cut == nil {
			t.Errorf("a response that had begun: %d %q %v", a.StatusCode, a.body, a.cut)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonRequestTimeout || time.Since(began) != 7*time.Second {
			t.Errorf("%s after %s", r.Reason, time.Since(began))
		}
	})
}

func TestResponsesThatAreNotHTTPGet502(t *testing.T) {
	for _, raw := range []string{
		"SSH-2.0-OpenSSH\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
		strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100),
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(backendAddr, scripted(raw))
			b.apply(onePool(backendAddr))
			c := b.dial()
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
			a := c.read("GET")
			for a.StatusCode == 102 {
				a = c.read("GET")
			}
			wantFailure(t, b, a, 502, proxy.ReasonInvalidResponse)
		})
	}
}

func TestABackendThatClosesInsteadOfAnsweringGets502(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) { _, _ = http.ReadRequest(r) })
		b.apply(onePool(backendAddr))
		wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonUpstreamReset)
	})
}

func TestAResponseThatEndsEarlyIsCutVisibly(t *testing.T) {
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-Note: close-now\r\n\r\nonly this",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Note: close-now\r\n\r\n9\r\nonly this\r\n",
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(backendAddr, scripted(raw))
			b.apply(onePool(backendAddr))
			c := b.dial()
			a := c.get("GET / HTTP/1.1", shopHost)
			if a.StatusCode != 200 || a.body != "only this" || a.cut == nil || !c.closed() {
				t.Errorf("%d %q %v", a.StatusCode, a.body, a.cut)
			}
			if r := b.sink.last(t); r.Reason != proxy.ReasonResponseCut || r.Status != 200 {
				t.Errorf("recorded %d %s", r.Status, r.Reason)
			}
		})
	}
}

func TestNoEndpointsGets503AndAnUnresolvedBackend500(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(onePool())
		c := b.dial()
		wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonNoEndpoints)
		p := onePool()
		p.Routes[0].Rules[0].Legs = []plan.Leg{{Weight: 1, Invalid: `Service "web" does not exist`}}
		b.apply(p)
		r := wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), 500, proxy.ReasonBackendUnresolved)
		if !strings.Contains(r.Detail, "does not exist") {
			t.Errorf("detail %q", r.Detail)
		}
		p = onePool()
		p.Routes[0].Rules[0].Invalid = "timeouts.request: not a duration"
		b.apply(p)
		wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), 500, proxy.ReasonRuleInvalid)
	})
}

func TestASlowHeaderGets408(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(onePool(backendAddr))
		c := b.dial()
		began := time.Now()
		go func() {
			for _, x := range "GET / HTTP/1.1" {
				_, _ = io.WriteString(c, string(x))
				time.Sleep(time.Second)
			}
		}()
		wantFailure(t, b, c.read("GET"), 408, proxy.ReasonRequestHeaderTimeout)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("after %s, want 10s", took)
		}
		time.Sleep(time.Minute) // let the slow writer see its end
	})
}

func TestAnUploadThatPausesTooLongGets408(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 10\r\n\r\n")
		for range 3 {
			time.Sleep(14 * time.Second)
			c.send("x")
		}
		began := time.Now()
		wantFailure(t, b, c.read("POST"), 408, proxy.ReasonRequestBodyTimeout)
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("after %s, want 15s", took)
		}
	})
}

func TestAnEarlyAnswerIsDeliveredWholeWhileTheBodyIsStillSent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nnope!")
			}
			time.Sleep(time.Second)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		go func() {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\n"+shopHost+"\r\nContent-Length: 1000000\r\n\r\n")
			for range 1000 {
				if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}()
		a := c.read("POST")
		if a.StatusCode != 401 || a.body != "nope!" || a.cut != nil {
			t.Fatalf("%d %q %v", a.StatusCode, a.body, a.cut)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonOK || r.Status != 401 {
			t.Errorf("recorded %d %s", r.Status, r.Reason)
		}
	})
}

func TestAClientThatHasGoneEndsTheUpstreamWorkSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		gone := make(chan time.Time, 1)
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			gone <- time.Now()
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		time.Sleep(300 * time.Millisecond)
		left := time.Now()
		_ = c.Close()
		if d := (<-gone).Sub(left); d > time.Second {
			t.Errorf("the backend was told after %s", d)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone || r.Status != 0 {
			t.Errorf("recorded %d %s", r.Status, r.Reason)
		}
	})
}

func TestAKeptConnectionThatTheBackendClosedIsNotUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var served atomic.Int64
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			// One request per connection, without saying so.
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			served.Add(1)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		for i := range 5 {
			c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\nhi")
			if a := c.read("POST"); a.StatusCode != 200 || a.body != "hi" {
				t.Fatalf("request %d: %d %q", i, a.StatusCode, a.body)
			}
			synctest.Wait()
		}
		if n := served.Load(); n != 5 {
			t.Errorf("the backend served %d requests, want 5: one was sent twice or lost", n)
		}
	})
}

func TestUnaskedBytesFromTheBackendPoisonNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			_, _ = io.Copy(io.Discard, r)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		for range 3 {
			if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 304 {
				t.Fatalf("got %d %q", a.StatusCode, a.body)
			}
		}
	})
}

func TestInFlightEndsWithTheBodyNotWithTheHeaders(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		release := make(chan struct{})
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-release
		})
		p := onePool(backendAddr)
		b.apply(p)
		c := b.dial()
		c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		synctest.Wait()
		ep := b.reg.Pool(p.Pools[0].Key).Endpoints()[0]
		if n := ep.InFlight(); n != 1 {
			t.Errorf("%d in flight while the body is sent", n)
		}
		close(release)
		if a := c.read("GET"); a.body != "begun" {
			t.Errorf("got %q", a.body)
		}
		synctest.Wait()
		if n := ep.InFlight(); n != 0 {
			t.Errorf("%d in flight at the end", n)
		}
	})
}

func TestADrainLetsRequestsEndAndClosesIdleConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(8 * time.Second)
			_, _ = io.WriteString(w, "done")
		})
		b.apply(onePool(backendAddr))
		idle, busy := b.dial(), b.dial()
		busy.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		synctest.Wait()
		cut := make(chan server.Cut)
		go func() {
			cut <- b.srv.Drain(t.Context(), server.DrainTimes{Delay: 5 * time.Second, Timeout: 30 * time.Second, Upgraded: 30 * time.Second})
		}()
		time.Sleep(time.Second)
		late := b.dial()
		if a := late.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 || !a.Close || !late.closed() {
			t.Errorf("during the delay a new connection got %d %v", a.StatusCode, a.Header)
		}
		if a := busy.read("GET"); a.body != "done" || !a.Close {
			t.Errorf("in flight: %q %v", a.body, a.Header)
		}
		if !idle.closed() {
			t.Error("the idle connection stays open")
		}
		if n := <-cut; n != (server.Cut{}) {
			t.Errorf("%v connections were cut", n)
		}
		if _, err := b.net.Dial(netip.MustParseAddrPort("192.0.2.80:80")); err == nil {
			t.Error("the listener is still open")
		}
	})
}

func TestADrainCutsWhatTakesTooLongAndSaysHowMany(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(time.Minute):
			case <-r.Context().Done():
			}
		})
		b.apply(onePool(backendAddr))
		for range 3 {
			b.dial().send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		}
		synctest.Wait()
		began := time.Now()
		n, took := b.srv.Drain(t.Context(), server.DrainTimes{Timeout: 10 * time.Second, Upgraded: 10 * time.Second}), time.Since(began)
		if n != (server.Cut{Requests: 3}) || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("%v were cut after %s", n, took)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonShutdown || len(b.sink.records) != 3 {
			t.Errorf("%d records, the last is %s", len(b.sink.records), r.Reason)
		}
	})
}
