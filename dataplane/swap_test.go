package dataplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
)

// lockedBuffer is a log that may be written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// TestAThousandSwapsUnderLoadFailAndMixNothing serves clients that keep their
// connections and upload in chunks while the plan is replaced 1,000 times. Plan
// g has a rule named after g whose only backend is number g mod 4: a request
// that took its rule from one table and its backend from another would show.
func TestAThousandSwapsUnderLoadFailAndMixNothing(t *testing.T) {
	const swaps, backends, clients = 1000, 4, 8
	var addrs []netip.AddrPort
	for i := range backends {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				n = -1
			}
			fmt.Fprintf(w, "%d %d", i, n)
		}))
		defer s.Close()
		addrs = append(addrs, s.Listener.Addr().(*net.TCPAddr).AddrPort())
	}
	log := &lockedBuffer{}
	e := dataplane.New(dataplane.Config{
		HTTP: "127.0.0.1:0", DrainTimeout: 10 * time.Second,
		AccessLog: telemetry.AccessLogConfig{Format: "json", Out: log},
	})
	if err := e.Apply(swapPlan(0, addrs)); err != nil {
		t.Fatal(err)
	}
	stop := runEngine(t, e)
	url := "http://" + e.Addr("http").String() + "/"

	var requests atomic.Int64
	var loaders sync.WaitGroup
	done := make(chan struct{})
	for i := range clients {
		loaders.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := oneRequest(client, url, (i+n)%2 == 0); err != nil {
					t.Error(err)
					return
				}
				requests.Add(1)
			}
		})
	}
	for g := 1; g <= swaps; g++ {
		if err := e.Apply(swapPlan(g, addrs)); err != nil {
			t.Fatal(err)
		}
		for target := requests.Load() + 1; requests.Load() < target && !t.Failed(); {
			time.Sleep(100 * time.Microsecond) // load between every two swaps
		}
	}
	close(done)
	loaders.Wait()
	stop()

	lines := strings.Split(strings.TrimSpace(log.b.String()), "\n")
	if int64(len(lines)) != requests.Load() {
		t.Errorf("%d lines for %d requests", len(lines), requests.Load())
	}
	for _, line := range lines {
		checkSwapLine(t, line, addrs)
	}
	t.Logf("%d requests during %d swaps", requests.Load(), swaps)
}

// swapPlan is plan number g: rule "g<g>" to backend g mod 4.
func swapPlan(g int, addrs []netip.AddrPort) plan.Plan {
	key := plan.PoolKey{Namespace: "ns", Service: fmt.Sprintf("svc%d", g%len(addrs)), Port: 80}
	return plan.Plan{
		Routes: []*plan.Route{{
			Namespace: "ns", Name: "swap", Hostnames: []string{"*"},
			Rules: []plan.Rule{{
				Name:     fmt.Sprintf("g%d", g),
				Matches:  []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}}},
				Legs:     []plan.Leg{{Weight: 1, Pool: key}},
				Timeouts: plan.Timeouts{Connect: 60 * time.Second, ResponseHeader: 60 * time.Second},
			}},
		}},
		Pools: []plan.Pool{{Key: key, Endpoints: []plan.Endpoint{{Addr: addrs[g%len(addrs)]}}}},
	}
}

func oneRequest(c *http.Client, url string, upload bool) error {
	const size = 100_000
	var res *http.Response
	var err error
	if upload {
		res, err = c.Post(url, "application/octet-stream", io.LimitReader(zeros{}, size)) // no length: chunked
	} else {
		res, err = c.Get(url)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	want := " 0"
	if upload {
		want = fmt.Sprintf(" %d", size)
	}
	if res.StatusCode != 200 || !strings.HasSuffix(string(body), want) {
		return fmt.Errorf("upload=%v: %s: %q", upload, res.Status, body)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// checkSwapLine holds the rule and the endpoint of a log line against each other.
func checkSwapLine(t *testing.T, line string, addrs []netip.AddrPort) {
	t.Helper()
	var l struct{ Rule, Endpoint, Reason string }
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	var g int
	if _, err := fmt.Sscanf(l.Rule, "g%d", &g); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if l.Endpoint != addrs[g%len(addrs)].String() || l.Reason != "ok" {
		t.Fatalf("rule and endpoint are of two tables, or the request failed: %s", line)
	}
}

// runEngine runs e, ready, until the returned function is called.
func runEngine(t *testing.T, e *dataplane.Engine) (stop func()) {
	t.Helper()
	return runUntil(t, e, func() bool { return e.Ready() == nil })
}

// runUntil runs e, and returns when it has come as far as is asked.
func runUntil(t *testing.T, e *dataplane.Engine, there func() bool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for !there() {
		select {
		case err := <-done:
			t.Fatalf("the engine ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
