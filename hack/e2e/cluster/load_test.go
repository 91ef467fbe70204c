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

// startLoad begins with 8 clients of up to 100 requests a second each, all with one
// method.
func startLoad(method string) *load {
	l := &load{stop: make(chan struct{}), by: make(map[string]int)}
	for range 8 {
		l.ending.Go(func() { l.client(method) })
	}
	return l
}

func (l *load) client(method string) {
	client := newClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		begin := time.Now()
		status, body, err := send(client, method, door, host, "/")
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

// answeredBy returns how many requests a Pod has answered so far, and how many all
// others have.
func (l *load) answeredBy(pod string) (by, others int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range l.by {
		if name == pod {
			by = n
		} else {
			others += n
		}
	}
	return by, others
}

// mustLoseNothing ends the traffic and fails the test for each request that did.
func (l *load) mustLoseNothing(t *testing.T, what string) {
	t.Helper()
	l.mustLoseAtMost(t, what, 0)
}

// mustLoseAtMost is mustLoseNothing where some requests cannot be saved. It ends the
// traffic only after so many requests that they prove something.
func (l *load) mustLoseAtMost(t *testing.T, what string, failures int) {
	t.Helper()
	eventually(t, "100 requests are done", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return atLeast(l.requests, 100)
	})
	close(l.stop)
	l.ending.Wait()
	t.Logf("%s: %d requests, %d failed, slowest %s, answered by %d Pods",
		what, l.requests, len(l.failures), l.slowest.Round(time.Millisecond), len(slices.Collect(maps.Keys(l.by))))
	if len(l.failures) <= failures {
		return
	}
	for _, f := range l.failures[:min(len(l.failures), 10)] {
		t.Errorf("%s: %s", what, f)
	}
}
