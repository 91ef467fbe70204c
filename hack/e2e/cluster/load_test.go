//go:build cluster

package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is steady traffic from outside: clients that each keep a connection and
// send one request after another.
type load struct {
	stop   chan struct{}
	ending sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []string
	by       map[string]int // answers by Pod
	slowest  time.Duration
}

// startLoad begins with 8 clients of up to 100 requests a second each.
func startLoad(host, path string) *load {
	l := &load{stop: make(chan struct{}), by: make(map[string]int)}
	for range 8 {
		l.ending.Go(func() { l.client(host, path) })
	}
	return l
}

func (l *load) client(host, path string) {
	client := newClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		begin := time.Now()
		status, body, err := ask(client, host, path)
		l.count(status, body, err, time.Since(begin))
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
	}
}

func (l *load) count(status int, body string, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.slowest = max(l.slowest, took)
	if err != nil || status != 200 {
		l.failures = append(l.failures, fmt.Sprintf("%s: %d %q %v", time.Now().Format("15:04:05.000"), status, body, err))
		return
	}
	pod, _, _ := strings.Cut(body, " ")
	l.by[pod]++
}

// mustLoseNothing ends the traffic and fails the test for each request that did.
func (l *load) mustLoseNothing(t *testing.T, what string) {
	t.Helper()
	close(l.stop)
	l.ending.Wait()
	t.Logf("%s: %d requests, %d failed, slowest %s, answered by %d Pods",
		what, l.requests, len(l.failures), l.slowest.Round(time.Millisecond), len(slices.Collect(maps.Keys(l.by))))
	if l.requests < 100 {
		t.Errorf("%s: only %d requests: that proves nothing", what, l.requests)
	}
	for _, f := range l.failures[:min(len(l.failures), 10)] {
		t.Errorf("%s: %s", what, f)
	}
}
