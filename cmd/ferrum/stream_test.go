package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

const (
	gib        = 1 << 30
	manyEvents = 10_000
)

// streamBackend takes uploads of any size, gives downloads of any size, sends
// events when it is told to and echoes over WebSocket.
func streamBackend(t *testing.T) (addr string, event chan<- string) {
	events := make(chan string)
	mux := http.NewServeMux()
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("framing") == "length" {
			w.Header().Set("Content-Length", fmt.Sprint(gib))
		}
		piece := make([]byte, 256<<10)
		for range gib / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case e := <-events:
				fmt.Fprintf(w, "data: %s\n\n", e)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/many-events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range manyEvents {
			fmt.Fprintf(w, "data: event %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }() // it is over
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				return
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), events
}

// startStreaming runs the proxy before a streamBackend, without a cap on bodies.
func startStreaming(t *testing.T) (p *process, event chan<- string) {
	addr, event := streamBackend(t)
	manifest := strings.Replace(oneRoute("stream.example.com", addr), "backendRefs: [{name: app, port: 80}]",
		"backendRefs: [{name: app, port: 80}]\n    limits: {maxRequestBodyBytes: 0}", 1)
	return start(t, "--manifests", string(newManifestDir(t, map[string]string{"all.yaml": manifest}))).ready(), event
}

// curl runs it against the proxy and returns what it wrote.
func curl(t *testing.T, p *process, path string, args ...string) string {
	t.Helper()
	args = append([]string{"--silent", "--show-error", "--max-time", "300", "-H", "Host: stream.example.com"}, args...)
	out, err := exec.CommandContext(t.Context(), "curl", append(args, p.http+path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", path, err, out)
	}
	return string(out)
}

// flatMemory is what the proxy's memory may grow by, however much is streamed.
const flatMemory = 16 << 20

// wantFlat checks how much memory the process had at most during f, beside what
// it had before.
func wantFlat(t *testing.T, p *process, f func()) {
	t.Helper()
	before := resetPeakMemory(t, p.cmd.Process.Pid)
	f()
	peak := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("memory before: %d KiB, at most: %d KiB", before>>10, peak>>10)
	if peak > before+flatMemory {
		t.Errorf("the process grew by %d KiB while it streamed", (peak-before)>>10)
	}
}

func TestAGiBIsUploadedWithFlatMemory(t *testing.T) {
	p, _ := startStreaming(t)
	file := filepath.Join(t.TempDir(), "zeros")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(gib); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d <nil>", gib)
	for name, args := range map[string][]string{
		"with its length": nil,
		"in chunks":       {"-H", "Transfer-Encoding: chunked"},
		"in chunks, without waiting for a go-ahead": {"-H", "Transfer-Encoding: chunked", "-H", "Expect:"},
	} {
		wantFlat(t, p, func() {
			if out := curl(t, p, "/upload", append(args, "--upload-file", file)...); out != want {
				t.Errorf("%s: the backend got %s", name, out)
			}
		})
	}
}

func TestAGiBIsDownloadedWithFlatMemory(t *testing.T) {
	p, _ := startStreaming(t)
	for _, framing := range []string{"length", "chunks"} {
		wantFlat(t, p, func() {
			out := curl(t, p, "/download?framing="+framing, "--output", os.DevNull, "--write-out", "%{http_code} %{size_download}")
			if want := fmt.Sprintf("200 %d", gib); out != want {
				t.Errorf("by %s: %s, want %s", framing, out, want)
			}
		})
	}
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	p, event := startStreaming(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", "--silent", "--no-buffer", "-H", "Host: stream.example.com", p.http+"/events")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := range 5 {
		// The next one is sent only when this one has arrived.
		event <- fmt.Sprint("event ", i)
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: event ", i) || !lines.Scan() {
			t.Fatalf("event %d: %q, %v", i, lines.Text(), lines.Err())
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
	eventually(t, "the client's going is recorded", func() bool {
		return p.access.count(func(l entry) bool { return l["path"] == "/events" && l["reason"] == "client_gone" }) == 1
	})
}

func TestManyEventsPassWithFlatMemory(t *testing.T) {
	p, _ := startStreaming(t)
	wantFlat(t, p, func() {
		out := curl(t, p, "/many-events")
		if n, end := strings.Count(out, "\n\n"), fmt.Sprintf("data: event %d\n\n", manyEvents-1); n != manyEvents || !strings.HasSuffix(out, end) {
			t.Errorf("%d events came, the last of them %q", n, out[max(0, len(out)-40):])
		}
	})
}

func TestAWebSocketEchoes(t *testing.T) {
	p, _ := startStreaming(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(p.http, "http")+"/ws", &websocket.DialOptions{Host: "stream.example.com"}) //nolint:bodyclose // the body is the connection
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }() // if it is not closed properly
	c.SetReadLimit(-1)
	wantFlat(t, p, func() {
		for _, size := range []int{0, 1, 125, 70_000, 8 << 20} {
			message := strings.Repeat("w", size)
			if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
			kind, got, err := c.Read(ctx)
			if err != nil || kind != websocket.MessageText || string(got) != message {
				t.Fatalf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
		const size = 1 << 20
		message := bytes.Repeat([]byte("w"), size)
		for i := range 16 {
			if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.Read(ctx); err != nil || len(got) != size {
				t.Fatalf("message %d of a MiB came back as %d, %v", i, len(got), err)
			}
		}
	})
	if err := c.Close(websocket.StatusNormalClosure, "enough"); err != nil {
		t.Errorf("closing handshake: %v", err)
	}
	line := p.access.wait(t, "the upgraded connection", func(l entry) bool { return l["path"] == "/ws" })
	if line["status"] != 101.0 || line["reason"] != "ok" {
		t.Errorf("recorded as %v %v", line["status"], line["reason"])
	}
}
