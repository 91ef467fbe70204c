//go:build !race

package upstream_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// TestManyServicesAreCheckedEvenlyAndAllocateOneGoroutineEach has more goroutines
// at a time than the race detector can follow; make test runs it without.
func TestManyServicesAreCheckedEvenlyAndAllocateOneGoroutineEach(t *testing.T) {
	const services, perService, minutes = 1000, 3, 2
	synctest.Test(t, func(t *testing.T) {
		r := upstream.NewRegistry()
		var mu sync.Mutex
		var perSecond [60 * minutes]int
		began := time.Now()
		r.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
			a, b := memnet.Pipe(addr(0), addr(1))
			_ = b.Close()
			mu.Lock()
			defer mu.Unlock()
			if s := int(time.Since(began) / time.Second); s < len(perSecond) {
				perSecond[s]++
			}
			return a, nil
		}
		var all []plan.Pool
		for i := range services {
			k := keyWith(plan.LeastRequest, active(plan.CheckTCP))
			k.Service = fmt.Sprint("svc", i)
			all = append(all, pools(k, perService)...)
		}
		r.Prepare(all)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(minutes * time.Minute)
		synctest.Wait()
		goroutines := runtime.NumGoroutine()
		cancel()
		<-done
		settled := perSecond[20:]
		t.Logf("%d endpoints every 10 s: %d checks at once, then %d to %d a second; %d goroutines while none is made", services*perService,
			perSecond[0], slices.Min(settled), slices.Max(settled), goroutines)
		if goroutines > services+100 {
			t.Errorf("%d goroutines", goroutines)
		}
		// 300 a second on average; a deviation of 17.
		if slices.Min(settled) < 180 || slices.Max(settled) > 420 {
			t.Errorf("checks a second: %v", settled)
		}
	})
}
