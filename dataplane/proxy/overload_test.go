package proxy_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

func TestAboveTheBudgetForBuffersNewRequestsAreTurnedAwayAndTheOthersGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.restart(func(c *proxy.Config) { c.MaxBufferBytes = http1.HeldBytes() + 64<<10 })
		g := newGated(b, backendAddr)
		b.apply(onePool(backendAddr))
		var all []*peer
		shed := func() bool {
			b.sink.mu.Lock()
			defer b.sink.mu.Unlock()
			return len(b.sink.records) > 0
		}
		for !shed() && len(all) < 100 {
			all = append(all, b.flying(1)...)
		}
		let := all[:len(all)-1]
		last := all[len(let)]
		a := last.read("GET")
		wantRefusal(t, b, a, 503, proxy.ReasonOverloaded)
		if a.Header.Get("Retry-After") == "" || !last.closed() {
			t.Error("no Retry-After, or the connection stays open")
		}
		if len(let) < 8 || len(let) > 16 { // 4 KiB for the client, and for the endpoint at times
			t.Errorf("%d requests were let in with 64 KiB of buffers", len(let))
		}
		g.answer(len(let))
		wantStatuses(t, let, 200)
		g.answer(1)
		wantStatuses(t, b.flying(1), 200)
	})
}

// Only requests that had their head whole were held against the budget: clients
// that sent the first 60 KiB of one, and waited, held as much as they liked.
func TestHeadsThatAreNotWholeAreHeldAgainstTheBudgetForBuffers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		const budget = 256 << 10
		b.restart(func(c *proxy.Config) { c.MaxBufferBytes = http1.HeldBytes() + budget })
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		before := http1.HeldBytes()
		var turnedAway int
		for range 20 {
			c := b.dial()
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n" + strings.Repeat("X-Fill: "+strings.Repeat("x", 1000)+"\r\n", 50))
			synctest.Wait()
			if held := http1.HeldBytes() - before; held > budget+64<<10 {
				t.Fatalf("%d bytes are held", held)
			}
			b.sink.mu.Lock()
			turnedAway = len(b.sink.records)
			b.sink.mu.Unlock()
			if turnedAway > 0 {
				wantRefusal(t, b, c.read("GET"), 503, proxy.ReasonOverloaded)
				break
			}
		}
		if turnedAway == 0 {
			t.Error("nobody was turned away")
		}
	})
}

// The head as the endpoint gets it, with what was there of the body, was in no
// account while the endpoint thought about it: requests with large heads held twice
// of what the budget saw, and more in rules that hedge.
func TestWhatIsWrittenToAnEndpointIsHeldAgainstTheBudgetForBuffers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		const requests, head = 10, 50 << 10
		g := newGated(b, backendAddr)
		b.apply(onePool(backendAddr))
		before := http1.HeldBytes()
		var all []*peer
		for range requests {
			c := b.dial()
			c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n" + strings.Repeat("X-Fill: "+strings.Repeat("x", 1<<10-10)+"\r\n", head>>10) + "\r\n")
			all = append(all, c)
		}
		synctest.Wait()
		// As it came, in a buffer of 64 KiB, and as it was sent, without the first 4 KiB.
		if held, least := http1.HeldBytes()-before, int64(requests*(64<<10+head-4<<10)); held < least {
			t.Errorf("%d bytes are held, want %d or more", held, least)
		}
		g.answer(requests)
		wantStatuses(t, all, 200)
		for _, c := range all {
			_ = c.Close()
		}
		synctest.Wait()
		if held := http1.HeldBytes() - before; held != 0 {
			t.Errorf("%d bytes are held by nobody", held)
		}
	})
}

// limitedBackend does so many requests at a time, each in 10 ms. Each one that it
// has beyond that makes all of them slower, as when a machine thrashes.
type limitedBackend struct {
	mu     sync.Mutex
	inside int
	most   int
}

func (l *limitedBackend) serve(capacity int) func(c net.Conn, r *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			l.mu.Lock()
			l.inside++
			l.most = max(l.most, l.inside)
			took := 10 * time.Millisecond
			if over := l.inside - capacity; over > 0 {
				took += took * time.Duration(2*over) / time.Duration(capacity)
			}
			l.mu.Unlock()
			time.Sleep(took)
			l.mu.Lock()
			l.inside--
			l.mu.Unlock()
			if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
				return
			}
		}
	}
}

// goodput has a number of clients ask one request after the other for 3 s, and
// returns how many were answered well, and the most that the backend had at once.
// A client that is turned away comes back after a second, as it is told.
func goodput(t *testing.T, breaker plan.CircuitBreaker, capacity, clients int) (good, shed, most int) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := new(limitedBackend)
		b.backend(backendAddr, l.serve(capacity))
		b.apply(broken(breaker, backendAddr))
		until := time.Now().Add(3 * time.Second)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range clients {
			c := b.dial()
			wg.Go(func() {
				for time.Now().Before(until) {
					a := c.get("GET / HTTP/1.1", shopHost)
					mu.Lock()
					if a.StatusCode == 200 {
						good++
					} else {
						shed++
					}
					mu.Unlock()
					if a.StatusCode != 200 {
						time.Sleep(time.Second)
					}
				}
			})
		}
		wg.Wait()
		most = l.most
	})
	return good, shed, most
}

// What the backend can do is done, whatever is asked for.
func TestGoodputStaysUpAtTwiceTheLoad(t *testing.T) {
	const capacity = 20
	bounded := plan.CircuitBreaker{MaxParallelRequests: capacity, MaxPendingRequests: capacity / 2, MaxPendingTime: time.Second}
	peak, _, _ := goodput(t, bounded, capacity, capacity)
	t.Log("clients  breaker  good  turned away  most at the backend")
	for _, times := range []int{1, 2, 5} {
		for _, row := range []struct {
			name    string
			breaker plan.CircuitBreaker
		}{{"none", plan.CircuitBreaker{}}, {"20 + 10", bounded}} {
			good, shed, most := goodput(t, row.breaker, capacity, times*capacity)
			t.Logf("%7d  %7s %5d  %11d  %d", times*capacity, row.name, good, shed, most)
			if !row.breaker.On() {
				continue
			}
			if good*10 < peak*9 {
				t.Errorf("%d clients: %d good requests, less than 90%% of %d", times*capacity, good, peak)
			}
			if most > capacity {
				t.Errorf("%d clients: %d at the backend at once", times*capacity, most)
			}
		}
	}
}
