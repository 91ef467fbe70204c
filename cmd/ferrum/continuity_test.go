package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// stoppable is a backend that refuses new connections from the moment it is told
// to stop, and ends when its requests have.
type stoppable struct {
	addr string
	srv  *http.Server
}

func newStoppable(t *testing.T) *stoppable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stoppable{l.Addr().String(), &http.Server{Handler: http.HandlerFunc(hashing), ReadHeaderTimeout: time.Minute}}
	go func() { _ = s.srv.Serve(l) }()
	t.Cleanup(func() { _ = s.srv.Close() })
	return s
}

func (s *stoppable) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.srv.Shutdown(ctx); err != nil {
		t.Errorf("a backend that was told to stop: %v", err)
	}
}

// endpointsOf is the EndpointSlices of oneRoute's Service with these endpoints;
// those of leaving are terminating and still serving.
func endpointsOf(ready, leaving []*stoppable) string {
	var b strings.Builder
	slice := func(s *stoppable, conditions string) {
		ip, port, _ := strings.Cut(s.addr, ":")
		fmt.Fprintf(&b, `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-%s, namespace: web, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: %s, protocol: TCP}]
endpoints: [{addresses: [%s], conditions: {%s}}]
---
`, port, port, ip, conditions)
	}
	for _, s := range ready {
		slice(s, "ready: true")
	}
	for _, s := range leaving {
		slice(s, "ready: false, serving: true, terminating: true")
	}
	return b.String()
}

// TestARollingReplacementOfBackendsLosesNothing replaces ten backends one by one,
// in order and ten times over: a new one is started and marked ready, an old one
// is marked terminating, removed, and told to stop as soon as the requests from before
// that have their answers. What is on its way to a backend that closes is lost whatever
// a proxy does, if it is a POST: on a busy machine one of 27,000 was.
func TestARollingReplacementOfBackendsLosesNothing(t *testing.T) {
	const rounds = 10
	backends := make([]*stoppable, 10)
	for i := range backends {
		backends[i] = newStoppable(t)
	}
	site := strings.SplitAfter(oneRoute("a.example.com", "127.0.0.1:1"), "protocol: TCP}]}\n")[0]
	dir := newManifestDir(t, map[string]string{"site.yaml": site, "endpoints.yaml": endpointsOf(backends, nil)})
	p := start(t, "--manifests", string(dir)).ready()
	applied := func(l entry) bool { return l["msg"] == "manifests applied" }
	apply := func(ready, leaving []*stoppable) {
		t.Helper()
		n := p.log.count(applied)
		dir.write(t, "endpoints.yaml", endpointsOf(ready, leaving))
		eventually(t, "the endpoints are applied", func() bool { return p.log.count(applied) > n })
	}
	l := newTraffic(t, "a.example.com", func() string { return strings.TrimPrefix(p.http, "http://") })
	l.steady(40, 1000)
	for range rounds * len(backends) {
		old, next := backends[0], newStoppable(t)
		backends = append(backends[1:], next)
		apply(append([]*stoppable{old}, backends...), nil)
		apply(backends, []*stoppable{old})
		apply(backends, nil)
		l.settle()
		old.stop(t)
	}
	l.end()
}

// balancer is a load balancer in front of replicas. It takes one out of the
// rotation two seconds after it has stopped being ready.
type balancer struct {
	mu       sync.Mutex
	replicas []*process
	next     int
}

func (b *balancer) address() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return strings.TrimPrefix(b.replicas[b.next%len(b.replicas)].http, "http://")
}

// watch takes p out when its readiness says so.
func (b *balancer) watch(p *process) {
	eventually(p.t, "not ready", func() bool { return p.status(p.admin+"/readyz") != http.StatusOK })
	<-time.After(2 * time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range b.replicas {
		if r == p {
			b.replicas = append(b.replicas[:i:i], b.replicas[i+1:]...)
			return
		}
	}
}

// slowOrUpgraded answers /slow after a while, echoes over WebSocket at /ws and is
// for a load everywhere else.
func slowOrUpgraded(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/slow":
		_, _ = io.WriteString(w, "slow ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(5 * time.Second):
			_, _ = io.WriteString(w, "and whole")
		case <-r.Context().Done():
		}
	case "/ws":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	default:
		hashing(w, r)
	}
}

// TestAReplicaThatIsStoppedUnderLoadLosesNothing sends SIGTERM to one of two
// replicas while the load balancer still sends to it, a slow response is under
// way and a WebSocket is open.
func TestAReplicaThatIsStoppedUnderLoadLosesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(slowOrUpgraded), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", l.Addr().String())})
	args := []string{"--manifests", string(dir), "--drain-delay", "3s", "--drain-timeout", "15s", "--drain-upgraded-timeout", "4s"}
	one, two := start(t, args...).ready(), start(t, args...).ready()
	lb := &balancer{replicas: []*process{one, two}}
	load := newTraffic(t, "a.example.com", lb.address)
	load.keepAlive(4, 4*time.Millisecond)
	load.churn(4, 4*time.Millisecond)
	load.barrier()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(one.http, "http")+"/ws", &websocket.DialOptions{Host: "a.example.com"}) //nolint:bodyclose // the body is the connection
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	slow := make(chan string)
	go func() {
		status, body := one.get("a.example.com", "/slow")
		slow <- fmt.Sprint(status, " ", body)
	}()
	one.signal(syscall.SIGTERM)
	lb.watch(one)
	if err := c.Write(ctx, websocket.MessageText, []byte("still there")); err != nil {
		t.Error(err)
	}
	if _, message, err := c.Read(ctx); err != nil || string(message) != "still there" {
		t.Errorf("the WebSocket gave %q, %v while the replica drains", message, err)
	}
	if got := <-slow; got != "200 slow and whole" {
		t.Errorf("the slow response: %q", got)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %v", err)
	}
	if code := one.exit(); code != exitFailed {
		t.Errorf("exit code %d; the WebSocket was cut", code)
	}
	one.log.wait(t, "what was cut", func(l entry) bool { return l["cutRequests"] == 0.0 && l["cutUpgraded"] == 1.0 })
	load.barrier()
	load.end()
}

// beBackend is what the test's binary does instead of testing, when it is asked
// to: a backend of its own process, that can be killed.
const beBackend = "FERRUM_TEST_BE_BACKEND"

// serveAsBackend begins a response of a length and one in chunks and ends
// neither.
func serveAsBackend() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "1000000")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})))
}

func TestABackendThatIsKilledCutsItsResponsesVisiblyAndNothingElse(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), beBackend+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, other, _ := strings.Cut(oneRoute("b.example.com", hashBackend(t)), "---\n")
	dir := newManifestDir(t, map[string]string{
		"site.yaml":  oneRoute("a.example.com", strings.TrimSpace(addr)),
		"other.yaml": strings.ReplaceAll(other, "namespace: web", "namespace: other"),
	})
	p := start(t, "--manifests", string(dir)).ready()
	l := newTraffic(t, "b.example.com", func() string { return strings.TrimPrefix(p.http, "http://") })
	l.keepAlive(4, 4*time.Millisecond)
	bodies := map[string]io.ReadCloser{}
	for _, path := range []string{"/length", "/chunks"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.http+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "a.example.com"
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		defer res.Body.Close()
		if _, err := io.CopyN(io.Discard, res.Body, 100_000); err != nil {
			t.Fatal(err)
		}
		bodies[path] = res.Body
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for path, body := range bodies {
		if rest, err := io.ReadAll(body); err == nil {
			t.Errorf("%s: ended as if whole, after %d bytes", path, len(rest))
		}
		p.access.wait(t, "the cut", func(l entry) bool { return l["path"] == path && l["reason"] == "response_cut" })
	}
	l.barrier()
	l.end()
}
