package proxy_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// TestSettingsCountForTheNextRequestOfAnOpenConnection changes all that can be
// changed under a client that keeps its connection.
func TestSettingsCountForTheNextRequestOfAnOpenConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Client", r.Header.Get("X-Real-Ip"))
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		get := func(fields string) *http.Response {
			t.Helper()
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n" + fields + "\r\n")
			return c.read("GET").Response
		}
		const forwarded = "X-Forwarded-For: 203.0.113.7\r\n"
		client, _, _ := strings.Cut(c.LocalAddr().String(), ":")
		if got := get(forwarded).Header.Get("Client"); got != client {
			t.Errorf("somebody is believed that the client is %s", got)
		}
		changed := b.config
		changed.Trusted = proxy.Prefixes{netip.MustParsePrefix(client + "/32")}
		changed.Clients.KeepAliveTimeout = 3 * time.Second
		b.proxy.Reconfigure(changed)
		if got := get(forwarded).Header.Get("Client"); got != "203.0.113.7" {
			t.Errorf("the client is %s; the one that forwards is believed by now", got)
		}
		began := time.Now()
		if c.wantEnd(); time.Since(began) != 3*time.Second {
			t.Errorf("closed after %s", time.Since(began))
		}

		c = b.dial()
		get("")
		changed.Clients.MaxHeaderFields = 2
		b.proxy.Reconfigure(changed)
		if got := get("A: 1\r\nB: 2\r\n").StatusCode; got != 431 {
			t.Errorf("three fields of two that are allowed get %d", got)
		}
	})
}
