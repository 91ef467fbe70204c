//go:build !race

package proxy_test

import "testing"

// TestAKeepAliveRequestAllocatesNothing does not run under the race detector,
// which makes sync.Pool forget things on purpose; make test runs it without.
func TestAKeepAliveRequestAllocatesNothing(t *testing.T) {
	for _, tc := range []struct{ name, request string }{{"GET", smallGet}, {"POST", smallPost}, {"GET through a trusted proxy", forwardedGet}} {
		w := newWire(t, tc.request, response(1024))
		for range 200 {
			w.roundTrip(t) // until pools and buffers have what they need
		}
		// AllocsPerRun rounds down: what the collector takes out of the pools
		// now and then does not count.
		if n := testing.AllocsPerRun(2000, func() { w.roundTrip(t) }); n > 0 {
			t.Errorf("%s: %v allocations per request", tc.name, n)
		}
	}
}
