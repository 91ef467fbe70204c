package dataplane_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// TestSwapsLeaveTunnelsAndDownloadsAlone swaps the plan all the time while 50
// tunnels and 50 long downloads are open and requests go on. Each swap replaces
// the rule, and the pool every other time.
func TestSwapsLeaveTunnelsAndDownloadsAlone(t *testing.T) {
	const swaps, held, chunk = 10_000, 50, "0123456789abcdef"
	release := make(chan struct{})
	var addrs []netip.AddrPort
	for range 2 {
		s := httptest.NewServer(holdHandler(release, chunk))
		defer s.Close()
		addrs = append(addrs, s.Listener.Addr().(*net.TCPAddr).AddrPort())
	}
	e := dataplane.New(dataplane.Config{HTTP: "127.0.0.1:0", DrainTimeout: 10 * time.Second, DrainUpgradedTimeout: 10 * time.Second})
	if err := e.Apply(swapPlan(0, addrs)); err != nil {
		t.Fatal(err)
	}
	stop := runEngine(t, e)
	addr := e.Addr("http").String()

	tunnels, downloads := make([]*stream, held), make([]*stream, held)
	for i := range held {
		tunnels[i] = open(t, addr, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 101)
		downloads[i] = open(t, addr, "GET /download HTTP/1.1\r\nHost: x\r\n\r\n", 200)
	}
	var requests atomic.Int64
	var loaders sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		loaders.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := i; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := oneRequest(client, "http://"+addr+"/", n%2 == 0); err != nil {
					t.Error(err)
					return
				}
				requests.Add(1)
			}
		})
	}
	var early, late usage
	for g := 1; g <= swaps; g++ {
		if err := e.Apply(swapPlan(g/2, addrs)); err != nil {
			t.Fatal(err)
		}
		if g%10 == 0 {
			tunnels[g/10%held].echo(t, fmt.Sprintf("after swap %06d", g))
		}
		for target := int64(g / 2); requests.Load() < target && !t.Failed(); {
			time.Sleep(50 * time.Microsecond) // load between any two swaps
		}
		switch g {
		case swaps / 10:
			early = measure()
		case swaps:
			late = measure()
		}
	}
	close(done)
	loaders.Wait()
	close(release)
	for i := range held {
		tunnels[i].echo(t, "the last word")
		_ = tunnels[i].conn.Close()
		if res := downloads[i]; !bytes.Equal(res.rest(t), []byte(chunk+chunk)) {
			t.Errorf("download %d is not whole", i)
		}
	}
	t.Logf("%d swaps, %d requests; heap %d KiB, then %d KiB; goroutines %d, then %d",
		swaps, requests.Load(), early.heap>>10, late.heap>>10, early.goroutines, late.goroutines)
	if late.heap > early.heap+early.heap/2+2<<20 {
		t.Errorf("the heap grew from %d to %d bytes", early.heap, late.heap)
	}
	if late.goroutines > early.goroutines+20 {
		t.Errorf("goroutines grew from %d to %d", early.goroutines, late.goroutines)
	}
	stop()
}

// Turns were numbers: with an endpoint more or less the same number was another
// endpoint's, so that one that came and went gave some of the others 200 requests
// and some 534.
//
// TestSwapsDoNotSkewTheBalance swaps the plan between any two requests, at times
// with an endpoint more or less: of the endpoints that stay, each gets its share.
func TestSwapsDoNotSkewTheBalance(t *testing.T) {
	const stay, requests = 5, 2000
	var counts [stay + 1]atomic.Int64
	var addrs []netip.AddrPort
	for i := range counts {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counts[i].Add(1) }))
		defer s.Close()
		addrs = append(addrs, s.Listener.Addr().(*net.TCPAddr).AddrPort())
	}
	for name, c := range map[string]struct {
		swap func(g int) plan.Plan
		skew int64 // the most that two endpoints may differ by
	}{
		"without swaps":                 {func(int) plan.Plan { return balancedPlan(0, addrs[:stay]) }, 1},
		"the rule is replaced":          {func(g int) plan.Plan { return balancedPlan(g, addrs[:stay]) }, 1},
		"an endpoint comes and goes":    {func(g int) plan.Plan { return balancedPlan(g, addrs[:stay+g%2]) }, 2},
		"and does so at every 7th swap": {func(g int) plan.Plan { return balancedPlan(g, addrs[:stay+g/7%2]) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range counts {
				counts[i].Store(0)
			}
			e := dataplane.New(dataplane.Config{HTTP: "127.0.0.1:0", DrainTimeout: 10 * time.Second})
			if err := e.Apply(c.swap(0)); err != nil {
				t.Fatal(err)
			}
			stop := runEngine(t, e)
			client := &http.Client{Transport: &http.Transport{}}
			for g := range requests {
				res, err := client.Get("http://" + e.Addr("http").String() + "/")
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close() // it is empty
				if err := e.Apply(c.swap(g + 1)); err != nil {
					t.Fatal(err)
				}
			}
			client.CloseIdleConnections()
			stop()
			low, high := counts[0].Load(), counts[0].Load()
			for i := range stay {
				low, high = min(low, counts[i].Load()), max(high, counts[i].Load())
			}
			t.Logf("between %d and %d requests", low, high)
			if high-low > c.skew {
				t.Errorf("between %d and %d requests to an endpoint", low, high)
			}
		})
	}
}

// balancedPlan is plan number g, over these endpoints one after the other.
func balancedPlan(g int, addrs []netip.AddrPort) plan.Plan {
	p := swapPlan(g, addrs[:1])
	key := p.Pools[0].Key
	key.Policy.LoadBalancing.Balancer = plan.RoundRobin
	p.Routes[0].Rules[0].Legs[0].Pool = key
	p.Pools[0] = plan.Pool{Key: key}
	for _, a := range addrs {
		p.Pools[0].Endpoints = append(p.Pools[0].Endpoints, plan.Endpoint{Addr: a})
	}
	return p
}

// holdHandler echoes at /tunnel, answers /download in two halves, the second when
// it is released, and counts what is uploaded elsewhere.
func holdHandler(release <-chan struct{}, chunk string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tunnel":
			nc, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer nc.Close()
			_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(nc, rw)
		case "/download":
			_, _ = io.WriteString(w, chunk)
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, chunk)
		default:
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				n = -1
			}
			fmt.Fprintf(w, "x %d", n)
		}
	}
}

// stream is a connection with a response under way.
type stream struct {
	conn net.Conn
	r    *bufio.Reader
	res  *http.Response
}

func open(t *testing.T, addr, head string, status int) *stream {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := &stream{conn: c, r: bufio.NewReader(c)}
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	if s.res, err = http.ReadResponse(s.r, nil); err != nil || s.res.StatusCode != status {
		t.Fatalf("%v %v", s.res, err)
	}
	return s
}

// echo sends a message through a tunnel and expects it back.
func (s *stream) echo(t *testing.T, message string) {
	t.Helper()
	_ = s.conn.SetDeadline(time.Now().Add(20 * time.Second)) // it is open
	if _, err := io.WriteString(s.conn, message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(s.r, got); err != nil || string(got) != message {
		t.Fatalf("%q came back, %v", got, err)
	}
}

// rest reads the body to its end.
func (s *stream) rest(t *testing.T) []byte {
	t.Helper()
	_ = s.conn.SetDeadline(time.Now().Add(20 * time.Second)) // it is open
	body, err := io.ReadAll(s.res.Body)
	if err != nil {
		t.Errorf("a download was cut after %s: %v", strings.TrimSpace(string(body)), err)
	}
	return body
}

// usage is what the process holds.
type usage struct {
	heap       uint64 // bytes that are in use after a collection
	goroutines int
}

func measure() usage {
	runtime.GC()
	runtime.GC() // what finalizers and pools had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}
