package proxy_test

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// large answers with a megabyte, or takes what is sent.
func large(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		_, _ = io.Copy(io.Discard, r.Body)
		return
	}
	n := 1
	if r.URL.Path == "/large" {
		n = 1 << 20
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	_, _ = io.WriteString(w, strings.Repeat("x", n))
}

// drip writes a byte now and then until the connection is closed.
func (p *peer) drip(every time.Duration) {
	for {
		time.Sleep(every)
		if _, err := io.WriteString(p.Conn, "x"); err != nil {
			return
		}
	}
}

const getLarge = "GET /large HTTP/1.1\r\n" + shopHost + "\r\n\r\n"

// badClients are ways to waste a connection.
var badClients = []struct {
	name   string
	does   func(p *peer)
	reason proxy.Reason
	within time.Duration
}{
	{"slow header", func(p *peer) { p.send("GET / HTTP/1.1\r\nX: "); p.drip(time.Second) }, proxy.ReasonRequestHeaderTimeout, 10 * time.Second},
	{"half-open inside a header", func(p *peer) { p.send("GET / HTTP/1.1\r\nX: ") }, proxy.ReasonRequestHeaderTimeout, 10 * time.Second},
	{"slow body", func(p *peer) { p.send(upload + "x"); p.drip(5 * time.Second) }, proxy.ReasonRequestBodyTooSlow, 15 * time.Second},
	{"half-open inside a body", func(p *peer) { p.send(upload + strings.Repeat("x", 6000)) }, proxy.ReasonRequestBodyTimeout, 15 * time.Second},
	{"aborted upload", func(p *peer) { p.send(upload + "x"); _ = p.Close() }, proxy.ReasonClientGone, time.Second},
	// What fits into the kernel's buffers it took at once. That gave it a minute, and
	// then another one.
	{"slow reader", func(p *peer) { p.send(getLarge) }, proxy.ReasonClientStalled, time.Minute},
	{"aborted download", func(p *peer) { p.send(getLarge); synctest.Wait(); _ = p.Close() }, proxy.ReasonClientGone, time.Second},
}

func TestEachKindOfBadClientEndsAloneInItsTimeAndIsCounted(t *testing.T) {
	const crowd = 20
	for _, bad := range badClients {
		t.Run(bad.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.httpBackend(backendAddr, large)
				p := onePool(backendAddr)
				p.Routes[0].Rules[0].Limits.MinRequestBodyRate = 240
				b.apply(p)
				for range crowd {
					c := b.dial()
					if bad.name == "aborted download" {
						bad.does(c) // which waits
						continue
					}
					go bad.does(c)
				}
				good := b.dial()
				for at := time.Duration(0); at < bad.within+time.Second; at += time.Second {
					began := time.Now()
					if a := good.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 || time.Since(began) != 0 {
						t.Fatalf("after %s another client got %d after %s", at, a.StatusCode, time.Since(began))
					}
					time.Sleep(time.Second)
				}
				b.sink.last(t)
				counted := 0
				for _, r := range b.sink.records {
					switch {
					case r.Reason == bad.reason:
						counted++
						if r.Duration > bad.within {
							t.Errorf("it took %s, more than %s", r.Duration, bad.within)
						}
					case r.Reason != proxy.ReasonOK:
						t.Errorf("%s (%s)", r.Reason, r.Detail)
					}
				}
				time.Sleep(3 * time.Second) // what lingers has ended
				if open := b.srv.Stats.Open.Load(); counted != crowd || open != 1 {
					t.Errorf("%d of %d are counted, %d connections are open", counted, crowd, open)
				}
			})
		})
	}
}

func TestAnIdleConnectionWhoseClientIsSilentlyGoneIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, large)
		b.apply(onePool(backendAddr))
		b.dial() // says nothing
		kept := b.dial()
		kept.get("GET / HTTP/1.1", shopHost) // says nothing more
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if open := b.srv.Stats.Open.Load(); open != 1 {
			t.Errorf("%d connections are open after the time for a head", open)
		}
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if open := b.srv.Stats.Open.Load(); open != 0 {
			t.Errorf("%d connections are open after the keep-alive timeout", open)
		}
	})
}

func TestASlowReaderThatGoesOnTakingSomethingIsServed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, large)
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send(getLarge)
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		began, n := time.Now(), int64(0)
		for range 12 { // five minutes
			time.Sleep(25 * time.Second)
			m, err := io.CopyN(io.Discard, res.Body, 16<<10)
			if n += m; err != nil {
				t.Fatalf("cut after %s and %d bytes: %v", time.Since(began), n, err)
			}
		}
		m, err := io.Copy(io.Discard, res.Body)
		if n += m; err != nil || n != 1<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonOK {
			t.Errorf("recorded %s", r.Reason)
		}
	})
}

// The connection of a client that reads no more was closed as any other is, with
// some megabytes of its response left in the kernel: of a thousand such clients
// that was all the memory that there is for TCP.
func TestAStalledClientsConnectionIsReset(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, large)
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send(getLarge)
		time.Sleep(2 * time.Minute)
		if n, err := io.Copy(io.Discard, c.Conn); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("it could still read %d bytes, then %v", n, err)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientStalled {
			t.Errorf("recorded %s", r.Reason)
		}
	})
}
