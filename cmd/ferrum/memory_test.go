package main

import (
	"bufio"
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
)

// Large heads at endpoints that do not answer hold their buffers for as long as that
// takes, as they came and as they were sent. Only the first was accounted for: with
// 32 MiB for buffers memory grew by 117 MiB.
func TestLargeHeadsTakeNoMoreMemoryThanBuffersMay(t *testing.T) {
	const clients, head, budget = 1000, 60 << 10, 32 << 20
	answer := make(chan struct{})
	stop, addr := mortal(t, "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-answer }))
	defer stop()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", addr)})
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "http: {maxBufferBytes: %d, headerTimeout: 1m}\n", budget), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--config", config, "--manifests", string(dir)).ready()
	before := resetPeakMemory(t, p.cmd.Process.Pid)
	raw := "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n" + strings.Repeat("X-Fill: "+strings.Repeat("x", 1<<10-10)+"\r\n", head>>10) + "\r\n"
	var load sync.WaitGroup
	var statuses [600]atomic.Int64
	var sent atomic.Int64
	for range clients {
		load.Go(func() {
			c, err := net.Dial("tcp", strings.TrimPrefix(p.http, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, raw) // it may have been turned away already
			sent.Add(1)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return // likewise
			}
			_ = res.Body.Close()
			statuses[res.StatusCode].Add(1)
		})
	}
	eventually(t, "all heads are sent", func() bool { return sent.Load() == clients })
	held := p.metric("ferrum_buffer_bytes")
	close(answer)
	load.Wait()
	grown := peakMemory(t, p.cmd.Process.Pid) - before
	t.Logf("%.0f MiB were held, memory grew by %d MiB; %d were served, %d turned away", held/(1<<20), grown>>20, statuses[200].Load(), statuses[503].Load())
	// The garbage collector lets the heap come to twice what is in use.
	if most := int64(2*budget + clients*16<<10); grown > most {
		t.Errorf("memory grew by %d MiB, more than %d", grown>>20, most>>20)
	}
	if statuses[200].Load() == 0 || statuses[503].Load() == 0 {
		t.Error("all were turned away, or none")
	}
	eventually(t, "nothing is held", func() bool { return p.metric("ferrum_buffer_bytes") < 1<<20 })
}
