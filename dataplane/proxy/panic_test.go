package proxy_test

import (
	"bufio"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// brokenLog is a sink that panics when a request has ended.
type brokenLog struct{ *sink }

func (brokenLog) Log(*proxy.Record) { panic("a defect") }

// A request that had been counted as ended when the proxy panicked was counted
// once more, and the gauge of those in flight went below zero.
func TestARequestThatMakesTheProxyPanicIsCountedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		b.apply(onePool(backendAddr))
		p := proxy.New(brokenLog{b.sink}, proxy.Config{
			Dial: func(a netip.AddrPort, _ time.Duration) (net.Conn, error) { return b.net.Dial(a) },
		})
		p.Publish(b.table)
		for _, raw := range []string{get, "GET / HTTP/1.1\r\nHost: unknown.example.com\r\n\r\n", "nonsense\r\n\r\n"} {
			before := b.sink.begun
			front, back := memnet.Pipe(b.front, b.front)
			go p.ServeConn(back, alwaysOpen{})
			c := &peer{t: t, Conn: front, r: bufio.NewReader(front)}
			c.send(raw)
			c.read("GET")
			if !c.closed() {
				t.Errorf("%q: the connection stays open", raw)
			}
			synctest.Wait()
			// The rule's own series are those of the bed, whose sink is the same.
			if begun, ended := b.sink.begun-before, b.sink.ended-before; begun != 1 || ended != 1 {
				t.Errorf("%q: %d begun, %d ended", raw, begun, ended)
			}
		}
	})
}
