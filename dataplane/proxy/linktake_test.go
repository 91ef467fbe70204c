package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// take reads a large message over a link that has the fault from a kilobyte on.
// dribbles is one byte at a time for another one.
func (f fault) take(c *memnet.Conn, r io.Reader) (whole bool) {
	const begun = 1024
	if _, err := io.CopyN(io.Discard, r, begun); err != nil {
		return false
	}
	switch f {
	case drops:
		time.Sleep(10 * time.Minute)
		return false
	case delays:
		time.Sleep(5 * time.Second)
	case resets:
		time.Sleep(time.Second)
		c.Reset()
		return false
	case halfCloses:
		_ = c.CloseWrite()
	case dribbles:
		one := make([]byte, 1)
		for range begun {
			time.Sleep(time.Millisecond)
			if _, err := io.ReadFull(r, one); err != nil {
				return false
			}
		}
	}
	n, err := io.Copy(io.Discard, r)
	return err == nil && n >= largeBody-2*begun
}

// largeBody is more than the network and the proxy take in.
const largeBody = 400_000

func largeMessage(framing string) string {
	body := strings.Repeat("x", largeBody)
	if framing == "chunks" {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", largeBody, body)
	}
	return "Content-Length: " + strconv.Itoa(largeBody) + "\r\n\r\n" + body
}

// takers is the matrix of those who take a large body: the endpoint a request's,
// the client a response's. after is when the exchange was over. A peer that takes
// nothing has the write timeout, and an endpoint a second more, in which it may
// answer what it has.
var takers = map[part]map[fault]outcome{
	requestBody: {
		drops:      {504, true, proxy.ReasonResponseHeaderTimeout, 61 * time.Second},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {502, true, proxy.ReasonUpstreamReset, time.Second},
		halfCloses: {502, true, proxy.ReasonUpstreamReset, 0},
		dribbles:   {200, true, proxy.ReasonOK, time.Second},
	},
	responseBody: {
		drops:      {200, false, proxy.ReasonClientStalled, time.Minute},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {200, false, proxy.ReasonClientGone, time.Second},
		halfCloses: {200, true, proxy.ReasonOK, 0},
		dribbles:   {200, true, proxy.ReasonOK, time.Second},
	},
}

func TestPeersThatTakeALargeBodyOverAFaultyLinkEndAsTheMatrixSays(t *testing.T) {
	for where, row := range takers {
		for f, want := range row {
			for framing := range framings {
				t.Run(string(where)+": the taker's link "+string(f)+", by "+framing, func(t *testing.T) {
					inBubble(t, func(t *testing.T, b *bed) { runTaker(t, b, where, f, framing, want) })
				})
			}
		}
	}
}

func runTaker(t *testing.T, b *bed, where part, f fault, framing string, want outcome) {
	request := "POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 2\r\n\r\nhi"
	response := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	if where == requestBody {
		request = "POST / HTTP/1.1\r\n" + shopHost + "\r\n" + largeMessage(framing)
	} else {
		response = "HTTP/1.1 200 OK\r\n" + largeMessage(framing)
	}
	b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if where == responseBody {
			_, _ = io.Copy(io.Discard, req.Body)
		} else if !f.take(c.(*memnet.Conn), req.Body) {
			return
		}
		_, _ = io.WriteString(c, response)
		_, _ = io.Copy(io.Discard, r) // until the proxy closes
	})
	b.apply(onePool(backendAddr))
	c := b.dial()
	go c.stream(request)

	got := outcome{}
	if res, err := http.ReadResponse(c.r, nil); err == nil {
		got.status = res.StatusCode
		if where == responseBody {
			got.whole = f.take(c.Conn, res.Body)
		} else {
			_, err = io.Copy(io.Discard, res.Body)
			got.whole = err == nil
		}
	}
	_ = c.Close()
	time.Sleep(10 * time.Minute) // the peer that takes nothing has done with that
	r := b.sink.last(t)
	got.reason, got.after = r.Reason, r.Duration.Truncate(time.Second)
	if got != want {
		t.Errorf("got %+v (%s), want %+v (%s)", got, got.reason, want, want.reason)
	}
}

// What befalls a connection between two requests is nobody's failure: a client's
// ends without a record, an endpoint's is not used for the next request.
func TestFaultsOfIdleConnectionsAreNobodysFailure(t *testing.T) {
	ends := map[fault]func(c *memnet.Conn){
		drops:      func(*memnet.Conn) {},
		resets:     (*memnet.Conn).Reset,
		halfCloses: func(c *memnet.Conn) { _ = c.CloseWrite() },
	}
	for f, end := range ends {
		t.Run("a client's link "+string(f), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.httpBackend(backendAddr, func(http.ResponseWriter, *http.Request) {})
				b.apply(onePool(backendAddr))
				c := b.dial()
				c.get("GET / HTTP/1.1", shopHost)
				synctest.Wait()
				end(c.Conn)
				if f == drops {
					time.Sleep(75 * time.Second)
				}
				synctest.Wait()
				if n := b.srv.Stats.Open.Load(); n != 0 {
					t.Errorf("%d connections are open", n)
				}
				if b.sink.last(t); len(b.sink.records) != 1 {
					t.Errorf("%d records of one request", len(b.sink.records))
				}
			})
		})
		t.Run("an endpoint's link "+string(f), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) { runIdleEndpoint(t, b, f, end) })
		})
	}
}

// runIdleEndpoint sends two requests. Between them the fault befalls the kept
// connection of the first one.
func runIdleEndpoint(t *testing.T, b *bed, f fault, end func(c *memnet.Conn)) {
	kept := make(chan *memnet.Conn, 2)
	b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if n == 0 || f != drops { // else it does not reach the endpoint
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			kept <- c.(*memnet.Conn)
		}
	})
	b.apply(onePool(backendAddr))
	c := b.dial()
	c.get("GET / HTTP/1.1", shopHost)
	synctest.Wait()
	first := <-kept
	end(first)
	synctest.Wait()
	a, want := c.get("POST / HTTP/1.1", shopHost, "Content-Length: 0"), outcome{200, true, proxy.ReasonOK, 0}
	if f == drops { // the link says nothing: only the timeout of an answer does
		want = outcome{504, true, proxy.ReasonResponseHeaderTimeout, time.Minute}
	}
	r := b.sink.last(t)
	if got := (outcome{a.StatusCode, a.cut == nil, r.Reason, r.Duration}); got != want {
		t.Errorf("got %+v (%s), want %+v (%s)", got, got.reason, want, want.reason)
	}
	if second := <-kept; (second == first) != (f == drops) {
		t.Errorf("the second request came by the connection of the first: %v", second == first)
	}
}

// A client that waits for its answer has nothing to say. That it is gone is seen
// within a second, also when it has only ended its side: so do those that are gone.
func TestAClientWhoseLinkFailsWhileItWaitsIsGone(t *testing.T) {
	for f, want := range map[fault]outcome{
		drops:      {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {0, false, proxy.ReasonClientGone, time.Second},
		halfCloses: {0, false, proxy.ReasonClientGone, time.Second},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.httpBackend(backendAddr, func(http.ResponseWriter, *http.Request) { time.Sleep(5 * time.Second) })
			b.apply(onePool(backendAddr))
			c := b.dial()
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
			synctest.Wait()
			if f == resets {
				c.Reset()
			} else if f == halfCloses {
				_ = c.CloseWrite()
			}
			time.Sleep(6 * time.Second)
			r := b.sink.last(t)
			if got := (outcome{r.Status, r.Status != 0, r.Reason, r.Duration}); got != want {
				t.Errorf("a link that %s: got %+v (%s), want %+v (%s)", f, got, got.reason, want, want.reason)
			}
		})
	}
}
