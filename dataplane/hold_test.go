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
)

// TestSwapsLeaveTunnelsAndDownloadsAlone swaps the plan all the time while 50
// tunnels and 50 long downloads are open and requests go on. Each swap replaces
// the rule, and the pool every other time.
func TestSwapsLeaveTunnelsAndDownloadsAlone(t *testing.T) {
	const swaps, held, chunk = 3000, 50, "0123456789abcdef"
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
		for target := requests.Load() + 1; requests.Load() < target && !t.Failed(); {
			time.Sleep(50 * time.Microsecond) // load between every two swaps
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
