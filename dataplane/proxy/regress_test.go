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

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// overTCP serves onePool, whose backend is a script, over loopback: some of these
// stories need a kernel between the parties. It returns the proxy's address.
func overTCP(t *testing.T, responseHeader time.Duration, script func(c net.Conn, r *bufio.Reader)) string {
	back, front := listen(t), listen(t)
	go func() {
		for {
			c, err := back.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				script(c, bufio.NewReader(c))
			}()
		}
	}()
	pl := onePool(back.Addr().String())
	pl.Routes[0].Rules[0].Timeouts.ResponseHeader = responseHeader
	s, reg := &sink{}, upstream.NewRegistry()
	reg.Prepare(pl.Pools)
	table, err := proxy.Compile(pl, reg, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(s, proxy.Config{Log: logr.Discard()})
	p.Publish(table)
	go func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			go p.ServeConn(c, alwaysOpen{})
		}
	}()
	return front.Addr().String()
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A head that took longer than a second, as one lost packet can make it, left no
// time on the clock that the wait for the backend began with: on a kept
// connection the request was never written and its answer waited for.
func TestASlowHeadIsServedOverAKeptConnection(t *testing.T) {
	c := dialTCP(t, overTCP(t, 5*time.Second, scripted("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	r := bufio.NewReader(c)
	for i := range 2 {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.")
		if i == 1 {
			time.Sleep(1200 * time.Millisecond)
		}
		_, _ = io.WriteString(c, "example.com\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || err != nil {
			t.Errorf("request %d: %d %q %v", i, res.StatusCode, body, err)
		}
	}
}

// The answer to a request that asked for the connection to be closed was lost to
// the reset that closing causes when something unread has arrived.
func TestAnAnswerThatClosesTheConnectionArrivesWhole(t *testing.T) {
	const size = 3_000_000
	c := dialTCP(t, overTCP(t, 5*time.Second, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"+strings.Repeat("z", size))
		}
	}))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n"+shopHost+"\r\nConnection: close\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	_, _ = io.WriteString(c, "\r\n")
	time.Sleep(300 * time.Millisecond)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Errorf("%d bytes, then %v", n, err)
	}
}

// To HTTP/1.0 the end of the connection is the end of the answer, so an answer
// that was cut looked whole.
func TestACutAnswerDoesNotLookWholeToHTTP10(t *testing.T) {
	c := dialTCP(t, overTCP(t, 5*time.Second, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf of it")
		}
	}))
	_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n"+shopHost+"\r\n\r\n")
	if b, err := io.ReadAll(c); err == nil {
		t.Errorf("a clean end after %q", b)
	}
}

// A request that makes the backend hang up was sent again on every kept
// connection, one after the other.
func TestARequestThatFailedOnAKeptConnectionIsSentOnceMore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var poison atomic.Int64
		gate := make(chan struct{})
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			for req := range requests(r) {
				if req.URL.Path == "/poison" {
					poison.Add(1)
					return
				}
				<-gate
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		b.apply(onePool(backendAddr))
		var wg sync.WaitGroup
		for range 50 {
			c := b.dial()
			wg.Go(func() { c.stream("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n"); _, _ = c.r.ReadString('k') })
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		synctest.Wait() // all 50 are recorded, and their connections kept
		a := b.dial().get("PUT /poison HTTP/1.1", shopHost, "Content-Length: 0")
		if r := b.sink.last(t); poison.Load() != 2 || r.Attempts != 2 || a.StatusCode != 502 {
			t.Errorf("%d: sent %d times, recorded %d attempts", a.StatusCode, poison.Load(), r.Attempts)
		}
	})
}

// A client that waits for 100 (Continue) was blamed for a backend that took its
// time to say so.
func TestABackendMayTakeItsTimeToSay100(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/never" {
				_, _ = io.Copy(io.Discard, r)
				return
			}
			time.Sleep(20 * time.Second)
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if a := c.read("POST"); a.StatusCode != 100 {
			t.Fatalf("%d %q", a.StatusCode, a.body)
		}
		c.send("hello")
		if a := c.read("POST"); a.body != "ok" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
		c.send("POST /never HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		wantFailure(t, b, c.read("POST"), 504, proxy.ReasonResponseHeaderTimeout)
	})
}

// An empty line behind a body, as some clients send it, began a request that
// never came and was answered with 408.
func TestAStrayEmptyLineIsNotARequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\nab\r\n")
		c.read("POST")
		time.Sleep(30 * time.Second)
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
			t.Errorf("the next request got %d %q", a.StatusCode, a.body)
		}
	})
	c := dialTCP(t, overTCP(t, 5*time.Second, scripted("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	r := bufio.NewReader(c)
	for range 3 {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\n"+shopHost+"\r\nContent-Length: 2\r\n\r\nab\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrailersReachTheClientsThatAskedForThem(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"))
		b.apply(onePool(backendAddr))
		c := b.dial()
		if a := c.get("GET / HTTP/1.1", shopHost); a.body != "ok" || a.Trailer.Get("X-Sum") != "" {
			t.Errorf("not asked for: %q %v", a.body, a.Trailer)
		}
		if a := c.get("GET / HTTP/1.1", shopHost, "TE: trailers"); a.body != "ok" || a.Trailer.Get("X-Sum") != "1" {
			t.Errorf("asked for: %q %v", a.body, a.Trailer)
		}
	})
}

// What the backend says of its keep-alive time decides how long its connection
// is kept, so that a request does not meet its close.
func TestAConnectionIsNotKeptLongerThanTheBackendSays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var conns atomic.Int64
		answer := scripted("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok")
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			conns.Add(1)
			answer(c, r)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		for range 2 {
			c.get("GET / HTTP/1.1", shopHost)
			time.Sleep(3 * time.Second)
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%d connections after 3 s", n)
		}
		time.Sleep(2 * time.Second)
		c.get("GET / HTTP/1.1", shopHost)
		if n := conns.Load(); n != 2 {
			t.Errorf("%d connections after 5 s", n)
		}
	})
}

// What an endpoint had not taken of a request when the deadline of its writes
// passed was never sent. Its answer was waited for all the same, for ever where
// the rule sets no bound, and the connection kept behind it.
func TestAnEndpointThatTakesNothingOfARequestEndsIt(t *testing.T) {
	for _, sent := range bodiesSent {
		inBubble(t, func(t *testing.T, b *bed) {
			c := b.stuffed(sent, func(t *plan.Timeouts, _ *plan.Limits) { t.ResponseHeader = 0 })
			wantFailure(t, b, c.read("POST"), 504, proxy.ReasonResponseHeaderTimeout)
			if took := b.sink.last(t).Duration; took > time.Minute+time.Second {
				t.Errorf("with %d bytes sent: after %s", sent, took)
			}
			time.Sleep(5 * time.Minute) // the endpoint is done
		})
	}
}

// The answer 502 to a client of HTTP/1.0 was followed by a reset, which takes
// what the client has not read with it.
func TestAnAnswerInPlaceOfAnEndlessOneIsNotReset(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("GET / HTTP/1.0\r\n" + shopHost + "\r\n\r\n")
		time.Sleep(time.Second) // a client that is slow to read
		wantFailure(t, b, c.read("GET"), 502, proxy.ReasonResponseCut)
	})
}

// A piece of a response that came after a pause had the deadline of its write
// counted from the beginning of the pause.
func TestAPauseOfTheEndpointIsNotTheClientsStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := proxy.New(b.sink, proxy.Config{
			Dial:    func(a netip.AddrPort, _ time.Duration) (net.Conn, error) { return b.net.Dial(a) },
			Clients: proxy.ClientLimits{WriteTimeout: 500 * time.Millisecond},
		})
		b.backend(backendAddr, speaks("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n", 800*time.Millisecond, 3))
		b.apply(onePool(backendAddr))
		p.Publish(b.proxy.Table())
		front, back := memnet.Pipe(b.front, b.front)
		go p.ServeConn(back, alwaysOpen{})
		c := &peer{t: t, Conn: front, r: bufio.NewReader(front)}
		if a := c.get("GET / HTTP/1.1", shopHost, "Connection: close"); a.cut != nil || len(a.body) != 15 {
			t.Errorf("%q %v", a.body, a.cut)
		}
		_ = front.Close()
	})
}

// The log line of a request that another backend took told of the one that does
// not resolve.
func TestARequestThatAnotherBackendTookHasNoDetailOfTheOneThatDidNot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, _ *http.Request) {})
		pl := legs(true, []uint32{1_000_000, 1}, nil, []string{backendAddr})
		pl.Routes[0].Rules[0].Legs[0].Invalid = "no such Service"
		b.apply(pl)
		c := b.dial()
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
			t.Fatal(a.StatusCode)
		}
		if d := b.sink.last(t).Detail; d != "" {
			t.Errorf("detail %q", d)
		}
	})
}

// Explain promised 503 of a rule none of whose backends resolves.
func TestExplainAgreesThatNoBackendResolves(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		pl := legs(false, []uint32{1, 1, 0}, nil, nil, []string{backendAddr})
		pl.Routes[0].Rules[0].Legs[0].Invalid = "no such Service"
		pl.Routes[0].Rules[0].Legs[1].Invalid = "no such port"
		b.apply(pl)
		got := b.dial().get("GET / HTTP/1.1", shopHost)
		x, err := b.proxy.Explain(proxy.Query{Method: "GET", URL: "http://shop.example.com/"})
		if err != nil || x.Status != got.StatusCode || x.Outcome != b.sink.last(t).Reason.String() {
			t.Errorf("explained as %d %s (%v), answered %d", x.Status, x.Outcome, err, got.StatusCode)
		}
	})
}

// A proxy that was out of descriptors took its endpoints for broken, and ejected
// them.
func TestAnEndpointIsNotBlamedForWhatTheProxyIsOutOf(t *testing.T) {
	for errno, blamed := range map[syscall.Errno]bool{syscall.EMFILE: false, syscall.EADDRNOTAVAIL: false, syscall.EHOSTUNREACH: true} {
		status, reason := 503, proxy.ReasonLocalShortage
		if blamed {
			status, reason = 502, proxy.ReasonConnectFailed
		}
		inBubble(t, func(t *testing.T, b *bed) {
			p := proxy.New(b.sink, proxy.Config{Dial: func(netip.AddrPort, time.Duration) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)}
			}})
			pl := edit(onePool("10.0.0.1:80", "10.0.0.2:80"), func(_ *plan.Rule, p *plan.Policy) {
				p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: time.Hour, MaxEjectedPercent: 50}
			})
			b.apply(pl)
			p.Publish(b.table)
			front, back := memnet.Pipe(b.front, b.front)
			go p.ServeConn(back, alwaysOpen{})
			c := &peer{t: t, Conn: front, r: bufio.NewReader(front)}
			wantFailure(t, b, c.get("GET / HTTP/1.1", shopHost), status, reason)
			ejected := 0
			for _, e := range proxy.ExplainPool(b.reg.Pool(pl.Pools[0].Key)) {
				if e.State == "ejected" {
					ejected++
				}
			}
			if ejected > 0 != blamed {
				t.Errorf("%v: %d are ejected", errno, ejected)
			}
			_ = front.Close()
		})
	}
}

// A client that had said the end of its body, and of all that it sends, was taken
// to be gone while the body waited to be read, because the endpoint was slow to take it.
func TestAClientThatSendsNoMoreWaitsForItsBodyToBeTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		const step, size = 4 << 10, 3 * memnet.BufferSize / 2
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			time.Sleep(5500 * time.Millisecond) // between two looks at the client
			if req, err := http.ReadRequest(r); err == nil {
				n, _ := io.Copy(io.Discard, req.Body)
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%d", n)
			}
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n", shopHost, size))
		for range size / step { // each is read before the next, until the endpoint's connection is full
			synctest.Wait()
			c.send(strings.Repeat("x", step))
		}
		_ = c.CloseWrite()
		if a := c.read("POST"); a.StatusCode != 200 || a.body != fmt.Sprint(size) {
			t.Errorf("%d %q, %s", a.StatusCode, a.body, b.sink.last(t).Reason)
		}
	})
}

// That a request has taken too long was seen between two pieces of its response,
// and a client that reads slowly enough made a piece last for as long as it liked.
func TestARequestTimeoutBoundsAClientThatReadsSlowly(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, large)
		b.apply(tuned(func(t *plan.Timeouts, _ *plan.Limits) { t.Request = 5 * time.Second }))
		c := b.dial()
		c.send(getLarge)
		go func() {
			for p := make([]byte, 1<<10); ; time.Sleep(time.Second) {
				if _, err := c.Conn.Read(p); err != nil {
					return
				}
			}
		}()
		time.Sleep(2 * time.Minute)
		if r := b.sink.last(t); r.Reason != proxy.ReasonRequestTimeout || r.Duration != 5*time.Second {
			t.Errorf("%s after %s", r.Reason, r.Duration)
		}
	})
}
