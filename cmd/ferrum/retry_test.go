package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mortal serves addr until it is killed, which resets what it has.
func mortal(t *testing.T, addr string, h http.Handler) (kill func(), at string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	return func() { _ = s.Close() }, l.Addr().String()
}

// A backend of two that dies and comes back, again and again, under requests over
// kept connections. No GET fails; a POST does if it was sent and not answered,
// because nobody can know whether it was processed, but never twice.
func TestABackendThatDiesAndComesBackCostsNoGET(t *testing.T) {
	var posts sync.Map // how often the backends have seen each
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Method == http.MethodPost && err == nil {
			n, _ := posts.LoadOrStore(string(body), new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
	})
	kill, dies := mortal(t, "127.0.0.1:0", h)
	stop, stays := mortal(t, "127.0.0.1:0", h)
	defer stop()
	manifest := strings.Replace(oneRoute("a.example.com", stays), "backendRefs: [{name: app, port: 80}]",
		"backendRefs: [{name: app, port: 80}]\n    retry: {conditions: [Reset]}\n    backendPolicy: {healthCheck: {passive: {consecutiveFailures: 0}}}", 1)
	dir := newManifestDir(t, map[string]string{"site.yaml": withSlice(manifest, "app-2", dies)})
	p := start(t, "--manifests", string(dir)).ready()

	const clients = 8
	var requests, failedGets, failedPosts atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for i := range clients {
		load.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				method, failed := http.MethodGet, &failedGets
				if n%2 == 1 {
					method, failed = http.MethodPost, &failedPosts
				}
				req, _ := http.NewRequestWithContext(t.Context(), method, p.http+"/", strings.NewReader(fmt.Sprintf("%d-%d", i, n)))
				if method == http.MethodGet {
					req.Body, req.ContentLength = nil, 0
				}
				req.Host = "a.example.com"
				requests.Add(1)
				res, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	const kills = 15
	for n := range kills {
		before := requests.Load()
		eventually(t, "requests go on", func() bool { return requests.Load() > before+200 })
		kill()
		eventually(t, "requests go on", func() bool { return requests.Load() > before+400 })
		if n < kills-1 {
			kill, _ = mortal(t, dies, h)
		}
	}
	close(done)
	load.Wait()
	t.Logf("%d requests, %d kills: %d GETs and %d POSTs failed", requests.Load(), kills, failedGets.Load(), failedPosts.Load())
	if n := failedGets.Load(); n > 0 {
		t.Errorf("%d GETs failed", n)
	}
	if n := failedPosts.Load(); n > kills*clients {
		t.Errorf("%d POSTs failed, more than can have been under way", n)
	}
	posts.Range(func(body, n any) bool {
		if n := n.(*atomic.Int64).Load(); n > 1 {
			t.Errorf("POST %s was processed %d times", body, n)
		}
		return true
	})
}

// Uploads that are all kept to be sent again would take 250 MiB. On a busy machine
// the clients, all of this process, are slower than clients may be.
func TestUploadsThatAreKeptTakeNoMoreMemoryThanTheyMay(t *testing.T) {
	const uploads, size, budget = 500, 512 << 10, 16 << 20
	var arrived atomic.Int64
	answer := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived.Add(1)
		<-answer
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	stop1, addr1 := mortal(t, "127.0.0.1:0", h)
	defer stop1()
	stop2, addr2 := mortal(t, "127.0.0.1:0", h)
	defer stop2()
	manifest := strings.Replace(oneRoute("a.example.com", addr1), "backendRefs: [{name: app, port: 80}]",
		"backendRefs: [{name: app, port: 80}]\n    retry: {methods: Idempotent, maxBodyBytes: 1Mi, totalTimeout: 0s}\n    timeouts: {requestBodyIdle: 1m}", 1)
	dir := newManifestDir(t, map[string]string{"site.yaml": withSlice(manifest, "app-2", addr2)})
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "buffers: {maxBytes: %d}\nhttp: {headerTimeout: 1m}\n", budget), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--config", config, "--manifests", string(dir)).ready()
	before := resetPeakMemory(t, p.cmd.Process.Pid)
	body := bytes.Repeat([]byte("x"), size)
	var load sync.WaitGroup
	var statuses [600]atomic.Int64
	for range uploads {
		load.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, p.http+"/", bytes.NewReader(body))
			req.Host = "a.example.com"
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			statuses[res.StatusCode].Add(1)
		})
	}
	eventually(t, "all uploads have arrived", func() bool { return arrived.Load() == uploads })
	held := p.metric("ferrum_retry_buffer_bytes")
	close(answer)
	load.Wait()
	grown := peakMemory(t, p.cmd.Process.Pid) - before
	t.Logf("%v bytes were kept, memory grew by %d MiB; %d uploads were sent again", held, grown>>20, arrived.Load()-uploads)
	if held == 0 || held > budget {
		t.Errorf("%v bytes were kept", held)
	}
	// Each has buffers, too, as it would without retries.
	if most := int64(budget + uploads*200<<10); grown > most {
		t.Errorf("memory grew by %d MiB, more than %d", grown>>20, most>>20)
	}
	if n := statuses[503].Load(); n != uploads || arrived.Load() == uploads {
		t.Errorf("%d of %d got the backends' 503, %d uploads were sent again", n, uploads, arrived.Load()-uploads)
	}
	eventually(t, "nothing is kept", func() bool { return p.metric("ferrum_retry_buffer_bytes") == 0 })
}
