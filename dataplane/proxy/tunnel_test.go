package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

const upgradeHead = "GET /chat HTTP/1.1\r\n" + shopHost + "\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"

// tunnelBackend grants the upgrade with "hello" right behind the 101, echoes in
// upper case, and says "bye" when the client has sent its last.
func tunnelBackend(t *testing.T) func(c net.Conn, r *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(req.Header.Get("Connection"), "upgrade") || req.Header.Get("Sec-Websocket-Key") != "abc" {
			t.Errorf("the backend saw %v", req.Header)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello")
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			if err != nil {
				break
			}
			_, _ = io.WriteString(c, strings.ToUpper(string(buf[:n])))
		}
		_, _ = io.WriteString(c, "bye")
	}
}

func (p *peer) upgrade() *http.Response {
	p.t.Helper()
	p.send(upgradeHead)
	res, err := http.ReadResponse(p.r, &http.Request{Method: "GET"})
	if err != nil {
		p.t.Fatal(err)
	}
	return res
}

func (p *peer) readText(want string) {
	p.t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(p.r, buf); err != nil || string(buf) != want {
		p.t.Fatalf("got %q, %v, want %q", buf, err, want)
	}
}

func TestAnUpgradeIsATunnelWhoseSidesEndOneByOne(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, tunnelBackend(t))
		b.apply(onePool(backendAddr))
		c := b.dial()
		res := c.upgrade()
		if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-Websocket-Accept") != "x" {
			t.Fatalf("%d %v", res.StatusCode, res.Header)
		}
		c.readText("hello")
		c.send("one")
		c.readText("ONE")
		time.Sleep(50 * time.Minute) // silent, but not for too long
		c.send("two")
		c.readText("TWO")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.readText("bye")
		if !c.closed() {
			t.Error("the tunnel did not end")
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonOK || r.Status != 101 || r.BytesIn != 6 || r.BytesOut != int64(len("helloONETWObye")) {
			t.Errorf("recorded %d %s, %d in, %d out", r.Status, r.Reason, r.BytesIn, r.BytesOut)
		}
	})
}

func TestASilentTunnelEndsAfterAnHour(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, tunnelBackend(t))
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.upgrade()
		c.readText("hello")
		time.Sleep(30 * time.Minute)
		c.send("x")
		c.readText("X")
		began := time.Now()
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("more bytes than were sent")
		}
		if d := time.Since(began); d != time.Hour {
			t.Errorf("cut after %s", d)
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonStreamIdle {
			t.Errorf("recorded %s", r.Reason)
		}
	})
}

func TestATunnelEndsWhenASideBreaks(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		ended := make(chan error, 1)
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, err := r.ReadByte()
			ended <- err
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.upgrade()
		c.Reset()
		if err := <-ended; err == nil {
			t.Error("the backend was not told")
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone {
			t.Errorf("recorded %s", r.Reason)
		}
	})
}

func TestAnUpgradeThatIsRefusedIsAnOrdinaryAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"))
		b.apply(onePool(backendAddr))
		c := b.dial()
		for range 2 {
			c.send(upgradeHead)
			if a := c.read("GET"); a.StatusCode != 426 || a.body != "no" {
				t.Fatalf("%d %q", a.StatusCode, a.body)
			}
		}
	})
}

func TestAnUpgradeNobodyAskedForGets502(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
		b.apply(onePool(backendAddr))
		wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonInvalidResponse)
		synctest.Wait()
	})
}
