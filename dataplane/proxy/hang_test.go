package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// twelve are the addresses of endpoints of which none is reached.
func twelve() (addrs []string) {
	for i := range 12 {
		addrs = append(addrs, fmt.Sprintf("10.0.1.%d:8080", i+1))
	}
	return addrs
}

// A request to endpoints that all hung was tried at eleven of them, for as many
// connect timeouts, unless the rule had a timeout for all of it: with the usual one
// the client had its answer after 33 s.
func TestARequestToEndpointsThatHangIsAnsweredAfterThreeConnectTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name     string
		fast     int // endpoints that refuse at once, before the others
		change   func(r *plan.Rule)
		took     time.Duration
		attempts int
		reason   proxy.Reason
	}{
		{"all hang", 0, nil, 9 * time.Second, 3, proxy.ReasonConnectTimeout},
		{"some refuse first", 5, nil, 9 * time.Second, 8, proxy.ReasonConnectTimeout},
		{"all refuse", 12, nil, 0, 11, proxy.ReasonConnectRefused},
		{"another timeout", 0, func(r *plan.Rule) { r.Timeouts.Connect = time.Second }, 3 * time.Second, 3, proxy.ReasonConnectTimeout},
		{"the request's is shorter", 0, func(r *plan.Rule) { r.Timeouts.Request = 4 * time.Second }, 4 * time.Second, 2, proxy.ReasonRequestTimeout},
		{"the request's is longer", 0, func(r *plan.Rule) { r.Timeouts.Request = time.Minute }, 9 * time.Second, 3, proxy.ReasonConnectTimeout},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			addrs := twelve()
			b.restart(func(c *proxy.Config) {
				c.Dial = func(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
					for _, a := range addrs[:tc.fast] {
						if a == addr.String() {
							return nil, syscall.ECONNREFUSED
						}
					}
					time.Sleep(timeout)
					return nil, os.ErrDeadlineExceeded
				}
			})
			b.apply(edit(onePool(addrs...), func(r *plan.Rule, p *plan.Policy) {
				p.LoadBalancing.Balancer = plan.FirstHealthy
				if tc.change != nil {
					tc.change(r)
				}
			}))
			began := time.Now()
			a := b.dial().get("POST / HTTP/1.1", shopHost, "Content-Length: 0")
			if took := time.Since(began); took != tc.took {
				t.Errorf("%s: %d after %v, want %v", tc.name, a.StatusCode, took, tc.took)
			}
			if r := b.sink.last(t); r.Attempts != tc.attempts || r.Reason != tc.reason {
				t.Errorf("%s: %d attempts, %s; want %d, %s", tc.name, r.Attempts, r.Reason, tc.attempts, tc.reason)
			}
		})
	}
}

// The time of a connect that had failed was recorded as that of the attempt that then
// went over a kept connection.
func TestAnAttemptOverAKeptConnectionIsRecordedWithoutAConnect(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.restart(func(c *proxy.Config) {
			dial := c.Dial
			c.Dial = func(addr netip.AddrPort, timeout time.Duration) (net.Conn, error) {
				if addr.String() == three[0] {
					time.Sleep(timeout)
					return nil, os.ErrDeadlineExceeded
				}
				return dial(addr, timeout)
			}
		})
		b.namedBackends(three[1])
		b.apply(edit(onePool(three[:2]...), func(_ *plan.Rule, p *plan.Policy) { p.LoadBalancing.Balancer = plan.FirstHealthy }))
		c := b.dial()
		for range 2 {
			c.get("GET / HTTP/1.1", shopHost)
			if r := b.sink.last(t); r.Connect != 0 || r.Attempts != 2 || r.Endpoint.String() != three[1] {
				t.Errorf("recorded %d attempts, a connect of %v, %s", r.Attempts, r.Connect, r.Endpoint)
			}
		}
	})
}
