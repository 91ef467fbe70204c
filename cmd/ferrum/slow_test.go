//go:build slowhttptest

package main

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// attackers is how many connections slowhttptest opens at a time.
const attackers = 1000

// attacks are the modes of slowhttptest, with the time after which startBriefly
// and anyRoute, or the minimum rate's grace, have them end. The tool itself would
// go on for as long as it is let.
var attacks = []struct {
	name, path string
	mode       []string
	reason     string
	within     time.Duration
}{
	{"slow headers", "/", []string{"-H", "-i", "1"}, "request_header_timeout", 2 * time.Second},
	{"a body that pauses", "/", []string{"-B", "-i", "30", "-s", "8192"}, "request_body_timeout", 2 * time.Second},
	{"a body that drips", "/", []string{"-B", "-i", "1", "-x", "10", "-s", "8192"}, "request_body_too_slow", 10 * time.Second},
	{"slow read", "/large", []string{"-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "1"}, "client_stalled", 2 * time.Second},
}

// busy is how much longer than that an attacker may take on a busy machine: much
// less than the tool would.
const busy = 15 * time.Second

// TestAThousandSlowClientsEndInTheirTimeAndDisturbNobody runs the attacks one by
// one beside ordinary traffic. Each of the attackers is counted under the reason
// of its kind while slowhttptest would still go on, and nobody else is.
func TestAThousandSlowClientsEndInTheirTimeAndDisturbNobody(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			manifest, _ := anyRoute(t, 512<<10) // more than the kernel takes for a client that does not read
			p := startBriefly(t, manifest)
			address := strings.TrimPrefix(p.http, "http://")
			others := newTraffic(t, "a.example.com", func() string { return address })
			var took latencies
			others.took = took.add
			others.keepAlive(6, 10*time.Millisecond)
			others.churn(2, 10*time.Millisecond)
			others.barrier()
			alone := took.p99()

			p.attack(a.reason, append(a.mode, "-u", p.http+a.path)...)
			beside := took.p99()
			others.barrier()
			others.end()
			eventually(t, "every connection is closed", func() bool { return p.metric("ferrum_connections_open") == 0 })
			got := p.failures()
			delete(got, "client_gone") // how slowhttptest looks whether the service is there
			if want := map[string]float64{a.reason: attackers}; !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			if longest := p.longest(a.reason); longest > (a.within + busy).Seconds() {
				t.Errorf("the longest took %.1f s, which were to be %s", longest, a.within)
			}
			t.Logf("the longest took %.1f s; p99 of the others: %s alone, %s beside them, %.1f times as long",
				p.longest(a.reason), alone, beside, float64(beside)/float64(alone))
		})
	}
}

// attack runs slowhttptest until all of its connections are counted under the
// reason, or the tool has given up.
func (p *process) attack(reason string, mode ...string) {
	p.t.Helper()
	args := append(mode, "-c", strconv.Itoa(attackers), "-r", "500", "-l", "45", "-p", "20")
	tool := exec.CommandContext(p.t.Context(), os.Getenv("SLOWHTTPTEST"), args...)
	if err := tool.Start(); err != nil {
		p.t.Fatalf("SLOWHTTPTEST has to be the path of slowhttptest: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = tool.Wait() // how it ends does not matter
		close(ended)
	}()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for on := true; on && p.failures()[reason] < attackers; {
		select {
		case <-look.C:
		case <-ended:
			on = false
		}
	}
	_ = tool.Process.Kill() // it may have ended for want of connections
	<-ended
}

// longest is how long the longest request with a reason took, in seconds.
func (p *process) longest(reason string) (s float64) {
	p.access.count(func(l entry) bool {
		if d, ok := l["duration_s"].(float64); ok && l["reason"] == reason {
			s = max(s, d)
		}
		return false
	})
	return s
}

// latencies are those of requests since the last look.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// p99 forgets what it looked at.
func (l *latencies) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Sorted(slices.Values(l.all))
	l.all = nil
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*99/100]
}
