package proxy_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// alwaysOpen is the life of a connection that nobody wants closed.
type alwaysOpen struct{ peer netip.AddrPort }

func (a alwaysOpen) Peer() proxy.Peer { return proxy.Peer{Addr: a.peer, Since: time.Now()} }
func (alwaysOpen) Idle() bool         { return true }
func (alwaysOpen) Busy() bool         { return true }
func (alwaysOpen) Draining() bool     { return false }
func (alwaysOpen) Cut() bool          { return false }
func (alwaysOpen) Upgraded(func())    {}
func (alwaysOpen) Ending()            {}

// wire is a client's connection through a proxy, with metrics and the access
// log on, to a backend that answers each read with the same bytes; all of it
// over loopback TCP and nothing in it but the proxy allocates.
type wire struct {
	client        net.Conn
	request, want []byte
	buf           []byte
}

func newWire(tb testing.TB, request, response string) *wire {
	tb.Helper()
	return newPlannedWire(tb, request, response, func(*plan.Plan) {})
}

// newPlannedWire is newWire with a plan that was changed.
func newPlannedWire(tb testing.TB, request, response string, change func(*plan.Plan)) *wire {
	tb.Helper()
	back := listen(tb)
	front, err := server.Listen(tb.Context(), "127.0.0.1:0", false) // whose connections are not of package net
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = front.Close() })
	go func() {
		for {
			c, err := back.Accept()
			if err != nil {
				return
			}
			go answerEachRead(c, []byte(response))
		}
	}()
	tel := telemetry.New(telemetry.Config{AccessLog: telemetry.AccessLogConfig{Format: "json", Out: io.Discard}})
	tb.Cleanup(func() { _ = tel.Close(tb.Context()) })
	config := proxy.Config{Log: logr.Discard()}
	if strings.Contains(request, "X-Forwarded-For") {
		config.Trusted = proxy.Prefixes{netip.MustParsePrefix("127.0.0.0/8")}
	}
	p := proxy.New(tel, config)
	reg := upstream.NewRegistry()
	pl := onePool(back.Addr().String())
	change(&pl)
	reg.Prepare(pl.Pools)
	table, err := proxy.Compile(pl, reg, tel, nil)
	if err != nil {
		tb.Fatal(err)
	}
	p.Publish(table)
	go func() {
		c, err := front.Accept()
		if err == nil {
			p.ServeConn(c, alwaysOpen{peer: c.RemoteAddr().(*net.TCPAddr).AddrPort()})
		}
	}()
	c, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	w := &wire{client: c, request: []byte(request), buf: make([]byte, 64<<10)}
	_, body, _ := bytes.Cut([]byte(response), []byte("\r\n\r\n"))
	w.want = append([]byte("\r\n\r\n"), body...)
	return w
}

func listen(tb testing.TB) net.Listener {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

func answerEachRead(c net.Conn, response []byte) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}

// roundTrip sends the request and reads until the body has arrived.
func (w *wire) roundTrip(tb testing.TB) {
	if _, err := w.client.Write(w.request); err != nil {
		tb.Fatal(err)
	}
	for n := 0; !bytes.HasSuffix(w.buf[:n], w.want); {
		m, err := w.client.Read(w.buf[n:])
		if err != nil {
			tb.Fatalf("%v after %q", err, w.buf[:n])
		}
		n += m
	}
}

const (
	smallGet = "GET /cart?id=7 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
	// forwardedGet comes from a trusted proxy, as all that loopback sends here.
	forwardedGet = "GET /cart?id=7 HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 2001:db8::1, 203.0.113.1, 127.0.0.2\r\n" +
		"X-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example.com\r\nForwarded: for=203.0.113.1;proto=https\r\n\r\n"
	smallPost = "POST /cart HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\nhello"
)

func response(n int) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(n) + "\r\n\r\n" + string(bytes.Repeat([]byte("x"), n))
}

func BenchmarkRequest(b *testing.B) {
	for _, bc := range []struct{ name, request, response string }{
		{"GET/1KiB", smallGet, response(1024)},
		{"GET/16KiB", smallGet, response(16 << 10)},
		{"POST/5B", smallPost, response(2)},
		{"GET/forwarded", forwardedGet, response(1024)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			w := newWire(b, bc.request, bc.response)
			for range 100 {
				w.roundTrip(b)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.roundTrip(b)
			}
		})
	}
}
