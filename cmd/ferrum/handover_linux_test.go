package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestAProcessIsReplacedOnItsPortsWithoutALoss replaces a process five times by
// another with the same configuration, admin port included, while clients keep
// connections and others make one for each request.
func TestAProcessIsReplacedOnItsPortsWithoutALoss(t *testing.T) {
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", hashBackend(t))})
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	http, admin := freePort(t), freePort(t)
	err := os.WriteFile(config, fmt.Appendf(nil, "manifests: %s\nhttp: {address: %q}\nadmin: {address: %q}\ndrain: {delay: 1s}\n", dir, http, admin), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := startExactly(t, "--config", config).ready()
	l := newTraffic(t, "a.example.com", func() string { return http })
	l.keepAlive(4, 5*time.Millisecond)
	l.churn(4, 2*time.Millisecond)
	for range 5 {
		next := startExactly(t, "--config", config)
		next.log.wait(t, "it joins", func(l entry) bool { return l["msg"] == "listening" && l["for"] == "http" })
		if status := p.status("http://" + admin + "/readyz"); status != 200 {
			t.Errorf("readyz of the old process: %d", status)
		}
		l.barrier()
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		p = next.ready()
		l.barrier()
	}
	l.end()
}
