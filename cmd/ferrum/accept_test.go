package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forwardedBackend answers with what it is told of the client.
func forwardedBackend(t *testing.T) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s|%s|%s|%s|%d", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Real-IP"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Forwarded"), len(body))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// rawConn is a client's connection that is written by hand.
type rawConn struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// connect opens a connection to the proxy.
func (p *process) connect() *rawConn {
	p.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.http, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &rawConn{p.t, c, bufio.NewReader(c)}
}

// say writes a text and reads a response; status is 0 when there is none.
func (c *rawConn) say(text string) (status int, body string) {
	if _, err := io.WriteString(c.Conn, text); err != nil {
		return 0, err.Error()
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(data)
}

// metric returns the value of a series, as written in the text format.
func (p *process) metric(series string) float64 {
	p.t.Helper()
	_, text := p.do(p.admin+"/metrics", "")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return f
		}
	}
	p.t.Fatalf("no metric %s", series)
	return 0
}

const (
	getSite  = "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
	proxyV1  = "PROXY TCP4 203.0.113.7 192.0.2.80 4711 80\r\n"
	proxyV2  = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x50\x12\x67\x00\x50"
	checkV2  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	loopback = "127.0.0.0/8"
)

func TestThePROXYHeaderOfATrustedLoadBalancerNamesTheClient(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", forwardedBackend(t))})
	p := start(t, "--manifests", string(dir), "--proxy-protocol-cidrs", loopback, "--forwarded-cidrs", "203.0.113.0/24,10.0.0.0/8").ready()

	const direct = "203.0.113.7|203.0.113.7|http|for=203.0.113.7;proto=http;host=a.example.com|0"
	for name, header := range map[string]string{"version 1": proxyV1, "version 2": proxyV2} {
		c := p.connect()
		for i := range 3 {
			if status, body := c.say(header + getSite); status != 200 || body != direct {
				t.Errorf("%s, request %d: %d %q", name, i, status, body)
			}
			header = "" // once in a connection
		}
	}
	p.access.wait(t, "the client's address", func(l entry) bool { return l["client"] == "203.0.113.7:4711" })

	// A large body comes through whole right behind a header.
	c := p.connect()
	const size = 3 << 20
	go func() {
		_, _ = io.WriteString(c.Conn, fmt.Sprintf("%sPOST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: %d\r\n\r\n%s", proxyV1, size, strings.Repeat("x", size)))
	}()
	if status, body := c.say(""); status != 200 || !strings.HasSuffix(body, fmt.Sprintf("|%d", size)) {
		t.Errorf("upload: %d %q", status, body)
	}

	// The peer that the header names is itself a proxy that is trusted.
	forwarded := "GET / HTTP/1.1\r\nHost: a.example.com\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.5, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\n\r\n"
	want := "6.6.6.6, 198.51.100.5, 10.1.1.1, 203.0.113.7|198.51.100.5|https|for=203.0.113.7;proto=http;host=a.example.com|0"
	if status, body := p.connect().say(proxyV2 + forwarded); status != 200 || body != want {
		t.Errorf("behind a trusted proxy: %d %q", status, body)
	}
	p.access.wait(t, "the client behind it", func(l entry) bool { return l["client"] == "198.51.100.5:0" })
	if status, body := p.connect().say(checkV2 + getSite); status != 200 || !strings.HasPrefix(body, "127.0.0.1|127.0.0.1|http|") {
		t.Errorf("the load balancer's own request: %d %q", status, body)
	}

	// A request without the header has no answer.
	if status, body := p.connect().say(getSite); status != 0 {
		t.Errorf("without a header: %d %q", status, body)
	}
	if n := p.metric(`ferrum_connections_refused_total{reason="proxy_header"}`); n != 1 {
		t.Errorf("%v refused", n)
	}
}

func TestAPROXYHeaderOfAStrangerIsMalformed(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", forwardedBackend(t))})
	p := start(t, "--manifests", string(dir), "--proxy-protocol-cidrs", "10.0.0.0/8").ready()
	for _, header := range []string{proxyV1, proxyV2} {
		if status, body := p.connect().say(header + getSite); status != 400 || body != "400 malformed_request\n" {
			t.Errorf("%q: %d %q", header, status, body)
		}
	}
}

func TestConnectionsAboveTheLimitsGet503(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir), "--max-connections", "3", "--max-connections-per-ip", "2", "--proxy-protocol-cidrs", loopback).ready()
	from := func(addr string) (*rawConn, int, string) {
		c := p.connect()
		status, body := c.say("PROXY TCP4 " + addr + " 192.0.2.80 1 80\r\n" + getSite)
		return c, status, body
	}
	one, _, _ := from("203.0.113.1")
	from("203.0.113.1")
	if _, status, body := from("203.0.113.1"); status != 503 || body != "503 max_connections_per_ip\n" {
		t.Errorf("the third of one address: %d %q", status, body)
	}
	eventually(t, "that one is gone", func() bool { return p.metric("ferrum_connections_open") == 2 })
	from("203.0.113.2")
	if _, status, body := from("203.0.113.3"); status != 503 || body != "503 max_connections\n" {
		t.Errorf("the fourth in all: %d %q", status, body)
	}
	if n := p.metric(`ferrum_connections_refused_total{reason="max_connections"}`); n != 1 {
		t.Errorf("%v refused", n)
	}
	_ = one.Close()
	eventually(t, "its place is free", func() bool { _, status, _ := from("203.0.113.3"); return status == 200 })
}

// underLimit runs the process with few file descriptors.
var underLimit = []string{"/bin/sh", "-c", `ulimit -n 64; exec "$@"`, "sh"}

func TestFewFileDescriptorsAreKeptForWhatIsServed(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := startBy(t, underLimit, "--manifests", string(dir)).ready()
	var served []*rawConn
	refused := 0
	for range 40 {
		c := p.connect()
		switch status, body := c.say(getSite); {
		case status == 200:
			served = append(served, c)
		case status == 503 && body == "503 max_connections\n":
			refused++
		default:
			t.Errorf("got %d %q", status, body)
		}
	}
	if len(served) != 8 || refused != 32 {
		t.Errorf("%d were served, %d refused; want 8 and 32", len(served), refused)
	}
	for _, c := range served {
		if status, body := c.say(getSite); status != 200 {
			t.Errorf("a connection that is served: %d %q", status, body)
		}
	}
	if n := p.metric("ferrum_accept_errors_total"); n != 0 {
		t.Errorf("%v failures to accept", n)
	}
}

func TestTheProcessRecoversFromRunningOutOfFileDescriptors(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := startBy(t, underLimit, "--manifests", string(dir), "--max-connections", "1000").ready()
	p.log.wait(t, "a warning at the start", func(l entry) bool { return strings.HasPrefix(fmt.Sprint(l["msg"]), "more connections are allowed") })
	var held []*rawConn
	for range 100 {
		held = append(held, p.connect())
	}
	p.log.wait(t, "the failure to accept", func(l entry) bool { return strings.HasPrefix(fmt.Sprint(l["msg"]), "cannot accept") })
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "served again", func() bool { status, body := p.get("a.example.com", "/"); return status == 200 && body == "one" })
	if n := p.metric("ferrum_accept_errors_total"); n < 1 || n > 100 {
		t.Errorf("%v failures to accept, want some and no spinning", n)
	}
	eventually(t, "nothing is left", func() bool { return p.metric("ferrum_connections_open") <= 1 })
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASecondProcessTakesThePortOver(t *testing.T) {
	t.Parallel()
	before := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "old"))})
	after := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "new"))})
	old := start(t, "--manifests", string(before), "--drain-delay", "0s").ready()
	addr := strings.TrimPrefix(old.http, "http://")
	next := start(t, "--manifests", string(after), "--http", addr).ready()
	if next.http != old.http {
		t.Fatalf("%s and %s", old.http, next.http)
	}
	for _, want := range []string{"old", "new"} {
		eventually(t, want+" answers", func() bool { _, body := next.get("a.example.com", "/"); return body == want })
	}
	old.signal(syscall.SIGTERM)
	if code := old.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for range 20 {
		if status, body := next.get("a.example.com", "/"); status != 200 || body != "new" {
			t.Errorf("got %d %q", status, body)
		}
	}
	if code := start(t, "--manifests", string(after), "--http", addr, "--http-reuse-port=false").exit(); code != 1 {
		t.Errorf("one that does not share: exit code %d, want 1", code)
	}
}
