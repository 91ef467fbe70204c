//go:build slowhttptest

package main

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// attackers is how many connections slowhttptest opens at a time.
const attackers = 1000

// attacks are the modes of slowhttptest, against the times of slowConfig and
// slowRoute. The tool itself would go on for much longer.
var attacks = []struct {
	name, path string
	mode       []string
	reason     string
}{
	{"slow headers", "/", []string{"-H", "-i", "1"}, "request_header_timeout"},
	{"a body that pauses", "/", []string{"-B", "-i", "30", "-s", "8192"}, "request_body_timeout"},
	{"a body that drips", "/", []string{"-B", "-i", "1", "-x", "10", "-s", "8192"}, "request_body_too_slow"},
	{"slow read", "/large", []string{"-X", "-w", "512", "-y", "1024", "-n", "30", "-z", "1"}, "client_stalled"},
}

const slowConfig = `
http:
  headerTimeout: 3s
  writeTimeout: 3s
`

// slowRoute takes every host, because slowhttptest asks for an address.
func slowRoute(t *testing.T) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hashing)
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		const size = 8 << 20 // more than the kernel takes for a client that reads nothing
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.WriteString(w, strings.Repeat("x", size)) // which does not end well
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	manifest := strings.Replace(oneRoute("any", s.Listener.Addr().String()), "  hostnames: [any]\n", "", 1)
	return strings.Replace(manifest, "  - name: all\n", "  - name: all\n    timeouts: {requestBodyIdle: 3s}\n", 1)
}

// TestAThousandSlowClientsEndInTheirTimeAndDisturbNobody runs the attacks one by
// one beside ordinary traffic. Each of the attackers is counted under the reason
// of its kind, nobody else is, and slowhttptest gives up because it has no
// connection left.
func TestAThousandSlowClientsEndInTheirTimeAndDisturbNobody(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "ferrum.yaml")
			if err := os.WriteFile(config, []byte(slowConfig), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := newManifestDir(t, map[string]string{"site.yaml": slowRoute(t)})
			p := start(t, "--config", config, "--manifests", string(dir), "--access-log", "json").ready()
			address := strings.TrimPrefix(p.http, "http://")
			others := newTraffic(t, "a.example.com", func() string { return address })
			var took latencies
			others.took = took.add
			others.keepAlive(6, 10*time.Millisecond)
			others.churn(2, 10*time.Millisecond)
			others.barrier()
			alone := took.p99()

			args := append(a.mode, "-c", strconv.Itoa(attackers), "-r", "500", "-l", "50", "-p", "20", "-u", p.http+a.path)
			tool := exec.CommandContext(t.Context(), os.Getenv("SLOWHTTPTEST"), args...)
			out, err := tool.CombinedOutput()
			if !strings.Contains(string(out), "No open connections left") {
				t.Errorf("slowhttptest: %v\n%s", err, tail(out))
			}
			beside := took.p99()
			others.barrier()
			others.end()
			eventually(t, "every connection is closed", func() bool { return p.metric("ferrum_connections_open") == 0 })
			got := p.failures()
			if want := map[string]float64{a.reason: attackers}; !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			t.Logf("the longest took %.1f s; p99 of the others: %s alone, %s beside them, %.1f times as long",
				p.longest(a.reason), alone, beside, float64(beside)/float64(alone))
		})
	}
}

// failures returns how many requests failed for each reason.
func (p *process) failures() map[string]float64 {
	_, text := p.do(p.admin+"/metrics", "")
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		labels, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "ferrum_request_failures_total{"), "} ")
		_, reason, ok := strings.Cut(labels, `reason="`)
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && strings.HasPrefix(line, "ferrum_request_failures_total{") && n > 0 {
			reason, _, _ = strings.Cut(reason, `"`)
			all[reason] += n
		}
	}
	return all
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

// tail is the end of what a tool has said.
func tail(out []byte) string { return string(out[max(len(out)-2000, 0):]) }
