package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An endpoint that had answered did not take the end of a body that the client had sent
// whole. The client was told that its connection goes on, and it was closed all the
// same, under the next request.
func TestAClientThatHasSentItsBodyKeepsItsConnectionWhateverBecomesOfThat(t *testing.T) {
	for name, linger := range map[string]time.Duration{"the endpoint closes": 0, "the endpoint just does not read": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				answer := make(chan struct{})
				b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if req.Method == "GET" {
						_, _ = io.WriteString(c, ok("ok"))
						return
					}
					<-answer
					_, _ = io.WriteString(c, "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")
					time.Sleep(linger)
				})
				b.apply(onePool(backendAddr))
				c := b.dial()
				c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 68000\r\n\r\n")
				synctest.Wait()
				c.send(strings.Repeat("x", 60_000))
				synctest.Wait()
				c.send(strings.Repeat("x", 8_000)) // is read whole, and more than there is room for
				synctest.Wait()
				close(answer)
				if a := c.read("POST"); a.StatusCode != 409 || a.body != "no" || a.Close {
					t.Fatalf("got %d %q, closing: %v", a.StatusCode, a.body, a.Close)
				}
				if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
					t.Errorf("the next request got %d", a.StatusCode)
				}
				time.Sleep(linger)
			})
		})
	}
}

// A body passed its cap in the piece that was its last. That piece was not sent, and yet
// the body counted as sent whole: the endpoint waited for the rest; or, if it had answered
// already, its connection was kept, and took the next request for the rest.
func TestABodyThatPassesItsCapWithItsLastPieceIsNotSentWhole(t *testing.T) {
	const head, chunk = "POST / HTTP/1.1\r\n" + shopHost + "\r\nTransfer-Encoding: chunked\r\n\r\n", "100000\r\n"
	most := strings.Repeat("x", 1<<20-10)
	for name, early := range map[string]bool{"the endpoint waits for it": false, "the endpoint has answered": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
					for req := range requests(r) {
						if req.Method == "POST" && early {
							// The end of the answer comes when the body has ended.
							_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
							go func() {
								time.Sleep(time.Second)
								_, _ = io.WriteString(c, "k")
							}()
						}
						if _, err := io.Copy(io.Discard, req.Body); err != nil {
							if err != io.ErrUnexpectedEOF {
								t.Errorf("the endpoint took something else for the rest of the body: %v", err)
							}
							return
						}
						if req.Method == "GET" || !early {
							_, _ = io.WriteString(c, ok("ok"))
						}
					}
				})
				b.apply(onePool(backendAddr))
				c := b.dial()
				c.send(head)
				synctest.Wait() // the body comes in pieces
				c.send(chunk + most)
				synctest.Wait()
				go c.stream(strings.Repeat("x", 10) + "\r\n1\r\nx\r\n0\r\n\r\n")
				if early {
					if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != 200 || !res.Close {
						t.Fatalf("got %v, %v", res, err)
					}
				} else if a := c.read("POST"); a.StatusCode != 413 {
					t.Errorf("got %d", a.StatusCode)
				}
				time.Sleep(5 * time.Second)
				if a := b.dial().get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
					t.Errorf("the next request got %d", a.StatusCode)
				}
			})
		})
	}
}

// Of an endpoint that says how long an interim response's body is it is not known what
// follows, for there can be none. Its connection was kept all the same: what it went on
// with was read as the answer to the first request, and the answer to that one was
// the next client's.
func TestAConnectionIsNotKeptBehindAnInterimResponseWithABody(t *testing.T) {
	for _, framing := range []string{"Content-Length: 40", "Transfer-Encoding: chunked"} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
				for req := range requests(r) {
					if req.URL.Path == "/hints" {
						_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n"+framing+"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
						time.Sleep(time.Second)
					}
					_, _ = io.WriteString(c, ok(req.URL.Path))
				}
			})
			b.apply(onePool(backendAddr))
			c := b.dial()
			if a := c.get("GET /hints HTTP/1.0", shopHost, "Connection: keep-alive"); a.StatusCode != 200 {
				t.Errorf("%s: %d", framing, a.StatusCode)
			}
			time.Sleep(2 * time.Second)
			if a := b.dial().get("GET /own HTTP/1.1", shopHost); a.body != "/own" {
				t.Errorf("%s: the next client got %q", framing, a.body)
			}
		})
	}
}

// An endpoint that answers a request without the 100 that it waits for may be one that
// expects no body any more: one that came all the same it took for the next request,
// whose answer was another client's.
func TestAConnectionIsNotKeptBehindABodyThatWasNotAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			for req := range requests(r) {
				time.Sleep(time.Second)
				_, _ = io.WriteString(c, ok(req.URL.Path))
			}
		})
		b.apply(onePool(backendAddr))
		const body = "GET /smuggled HTTP/1.1\r\n" + shopHost + "\r\n\r\n"
		c := b.dial()
		c.send("POST /asks HTTP/1.1\r\n" + shopHost + "\r\nExpect: 100-continue\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
		if a := c.read("POST"); a.body != "/asks" {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
		if a := b.dial().get("GET /own HTTP/1.1", shopHost); a.body != "/own" {
			t.Errorf("the next client got %q", a.body)
		}
		time.Sleep(3 * time.Second)
	})
}

// An endpoint of HTTP/1.0 does not know where a chunked body ends, and may take what
// is left of it for the next request.
func TestAConnectionIsNotKeptBehindAChunkedBodyThatHTTP10DoesNotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var connections atomic.Int32
		answer := scripted("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			connections.Add(1)
			answer(c, r)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		for n, body := range []string{"Content-Length: 2\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Content-Length: 2\r\n\r\nok"} {
			c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\n" + body)
			if a := c.read("POST"); a.StatusCode != 200 {
				t.Fatalf("request %d: %d %q", n, a.StatusCode, a.body)
			}
		}
		if n := connections.Load(); n != 2 { // the first two requests share one
			t.Errorf("%d connections", n)
		}
		_ = c.Close()
	})
}
