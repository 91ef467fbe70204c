package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace has the test's binary run a test in the network namespace that it
// finds itself in.
const inNamespace = "FERRUM_TEST_IN_NAMESPACE"

// alone reports whether the test runs in a network namespace of its own; if not,
// it has it run in one, where the machine lets it make one.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		raiseLoopback(t)
		return true
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1", builtBinary+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Logf("left out: it needs a user and a network namespace, and making them fails: %v", err)
		return false
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	}
	return false
}

// raiseLoopback makes 127.0.0.1 work, which is down in a new namespace. Anywhere
// else it is up, and the test goes no further.
func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil || lo.Uint16()&unix.IFF_UP != 0 {
		t.Fatalf("this is no new network namespace: %v", err)
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// TestRequestsForWhichNoPortIsLeftAreShedAndTheOthersGoOn leaves six local ports
// for connections to the backend and asks for twenty at a time.
func TestRequestsForWhichNoPortIsLeftAreShedAndTheOthersGoOn(t *testing.T) {
	if !alone(t) {
		return
	}
	const ports, clients = 6, 20
	var arrived atomic.Int64
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived.Add(1)
		<-release
	}))
	t.Cleanup(s.Close)
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", s.Listener.Addr().(*net.TCPAddr).String())})
	p := start(t, "--manifests", string(dir)).ready()
	conns := make([]*rawConn, clients)
	for i := range conns {
		conns[i] = p.connect()
	}
	const portRange = "/proc/sys/net/ipv4/ip_local_port_range"
	all, err := os.ReadFile(portRange)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(portRange, []byte("20000 20005"), 0o600); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer, clients)
	for _, c := range conns {
		go func() {
			status, body := c.say(getSite)
			answers <- answer{status, body}
		}()
	}
	for range clients - ports {
		if got := <-answers; got.status != 503 || got.body != "503 local_shortage\n" {
			t.Errorf("without a port: %d %q", got.status, got.body)
		}
	}
	p.access.wait(t, "the shortage", func(l entry) bool { return l["reason"] == "local_shortage" })
	if n := arrived.Load(); n != ports {
		t.Errorf("%d requests are at the backend, want %d", n, ports)
	}
	close(release)
	for range ports {
		if got := <-answers; got.status != 200 {
			t.Errorf("with a port: %d %q", got.status, got.body)
		}
	}
	// Still there are six, which is enough for one at a time; nobody is blamed.
	for i, c := range conns {
		if status, body := c.say(getSite); status != 200 {
			t.Errorf("afterwards, client %d: %d %q", i, status, body)
		}
	}
	if err := os.WriteFile(portRange, all, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := p.metric(`ferrum_upstream_ejections_total{namespace="web",port="80",service="app"}`); n != 0 {
		t.Errorf("the endpoint was ejected %v times", n)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
