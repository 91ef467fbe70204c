package proxy_test

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// hammered is how many requests meet a backend that is about to hang up.
const hammered = 10_000

// A backend closes a connection that it thinks idle just when the proxy takes it
// for the next request: the one race of keep-alive that cannot be avoided. What
// was sent then and not answered at all may be sent again if its method says so
// (RFC 9112, 9.3.1), and a client never sees it.
func TestAConnectionThatTheBackendClosesAtTheWrongMomentIsNeverSeen(t *testing.T) {
	addr := overTCP(t, time.Minute, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
			// One time in four it hangs up, some time between now and later than
			// the next request comes.
			if rand.N(4) == 0 {
				for end := time.Now().Add(rand.N(200 * time.Microsecond)); time.Now().Before(end); {
				}
				return
			}
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		c := dialTCP(t, addr)
		clients.Go(func() {
			r := bufio.NewReader(c)
			for i := range hammered / 4 {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"+shopHost+"\r\n\r\n"); err != nil {
					t.Error(err)
					return
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || err != nil {
					t.Errorf("request %d: %d %q %v", i, res.StatusCode, body, err)
				}
			}
		})
	}
	clients.Wait()
}

// Servers that give up an idle connection may say so first: 408 (Request Timeout),
// say. The proxy saw that before it wrote the next request, and answered that with
// 502 where there was no other endpoint, because bytes had come: it took them for a
// part of an answer to what it had not sent.
func TestAKeptConnectionOnWhichTheBackendSpokeUnaskedIsNotUsed(t *testing.T) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n",
		"POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 4\r\n\r\nbody",
	} {
		answered, spoke := make(chan struct{}), make(chan struct{})
		addr := overTCP(t, time.Minute, func(c net.Conn, r *bufio.Reader) {
			for req := range requests(r) {
				if _, err := io.Copy(io.Discard, req.Body); err != nil {
					return
				}
				if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
					return
				}
				<-answered
				_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate")
				spoke <- struct{}{} // on loopback it is there by now
			}
		})
		c := dialTCP(t, addr)
		r := bufio.NewReader(c)
		for i := range 3 {
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "ok" || err != nil {
				t.Fatalf("request %d: %d %q %v", i, res.StatusCode, body, err)
			}
			answered <- struct{}{}
			<-spoke
		}
	}
}
