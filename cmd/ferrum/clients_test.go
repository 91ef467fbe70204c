package main

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// anyRoute sends every host to a backend that answers with a hash, and at /large
// with so many bytes. working is how many requests it has at the moment. Bodies
// may pause for as long as the clients of startBriefly may, which is 2 s.
func anyRoute(t *testing.T, size int) (manifest string, working *atomic.Int64) {
	large := strings.Repeat("x", size)
	working = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		working.Add(1)
		defer working.Add(-1)
		if r.URL.Path != "/large" {
			hashing(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(large)))
		_, _ = io.WriteString(w, large) // which does not always end well
	}))
	t.Cleanup(s.Close)
	manifest = strings.Replace(oneRoute("any", s.Listener.Addr().String()), "  hostnames: [any]\n", "", 1)
	return strings.Replace(manifest, "  - name: all\n", "  - name: all\n    timeouts: {requestBodyIdle: 2s}\n", 1), working
}

// startBriefly runs the proxy with short times for its clients.
func startBriefly(t *testing.T, manifest string) *process {
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, []byte("http: {headerTimeout: 2s, writeTimeout: 2s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := newManifestDir(t, map[string]string{"all.yaml": manifest})
	return start(t, "--config", config, "--manifests", string(dir), "--access-log", "json", "--max-connections", "2000").ready()
}

// failures returns how many requests failed for each reason.
func (p *process) failures() map[string]float64 {
	_, text := p.do(p.admin+"/metrics", "")
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		series, ok := strings.CutPrefix(strings.TrimSpace(line), "ferrum_request_failures_total{")
		labels, value, found := strings.Cut(series, "} ")
		_, reason, _ := strings.Cut(labels, `reason="`)
		reason, _, _ = strings.Cut(reason, `"`)
		if n, err := strconv.ParseFloat(value, 64); ok && found && err == nil && n > 0 {
			all[reason] += n
		}
	}
	return all
}

// deserters are ways to leave a request. Those that say nothing more may as well
// be gone without a word.
var deserters = []struct {
	name, says string
	leaves     func(c *net.TCPConn)
	reason     string
}{
	{"silent inside a header", "GET / HTTP/1.1\r\nX: ", func(*net.TCPConn) {}, "request_header_timeout"},
	{"silent inside a body", uploadStart, func(*net.TCPConn) {}, "request_body_timeout"},
	{"silent before a response", getLarge, func(*net.TCPConn) {}, "client_stalled"},
	{"an upload that ends", uploadStart, func(c *net.TCPConn) { _ = c.Close() }, "client_gone"},
	{"an upload that is reset", uploadStart, reset, "client_gone"},
	{"a download that is not wanted", getLarge, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1000)); _ = c.Close() }, "client_gone"},
	{"a download that is reset", getLarge, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1000)); reset(c) }, "client_gone"},
}

const (
	uploadStart = "POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 100000\r\n\r\nxxxx"
	getLarge    = "GET /large HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
)

// reset closes a connection with a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // else it ends the other way
	_ = c.Close()      // it is being cut
}

func TestClientsThatLeaveEndAloneAndAreCounted(t *testing.T) {
	t.Parallel()
	const each = 30
	manifest, working := anyRoute(t, 2<<20)
	p := startBriefly(t, manifest)
	address := strings.TrimPrefix(p.http, "http://")
	others := newTraffic(t, "a.example.com", func() string { return address })
	others.keepAlive(4, 10*time.Millisecond)
	others.churn(2, 10*time.Millisecond)
	want := map[string]float64{}
	for _, d := range deserters {
		want[d.reason] += each
		for range each {
			c := p.connect().Conn.(*net.TCPConn)
			if _, err := io.WriteString(c, d.says); err != nil {
				t.Fatal(err)
			}
			d.leaves(c)
		}
	}
	eventually(t, "each of them is counted", func() bool { return maps.Equal(p.failures(), want) })
	others.barrier()
	others.end()
	eventually(t, "every connection is closed", func() bool { return p.metric("ferrum_connections_open") == 0 })
	eventually(t, "the backend has nothing to do", func() bool { return working.Load() == 0 })
	if got := p.failures(); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
