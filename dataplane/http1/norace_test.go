//go:build !race

package http1_test

import "testing"

// TestALookAtAPeerAllocatesNothing does not run under the race detector, which
// makes sync.Pool forget things on purpose; make test runs it without.
func TestALookAtAPeerAllocatesNothing(t *testing.T) {
	c, _ := tcpPipe(t)
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = c.Alive(), c.Broken(), c.Pending() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
