//go:build redis

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared/redistest"
)

// TestProcessesCountTogetherInRedis has processes with their own ways to the same
// Redis: one by a password of the environment's, one by a file.
func TestProcessesCountTogetherInRedis(t *testing.T) {
	cert, key := certificate(t)
	server := redistest.Start(t, "--requirepass", "s3cret", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	_, port, _ := strings.Cut(server.Addr(), ":")
	route := strings.Replace(oneRoute("a.example.com", backend(t, "one")), "  - name: all\n", `  - name: all
    filters: [{type: RateLimit, rateLimit: {requests: 5, period: 24h, scope: Cluster}}]
`, 1)
	dir := newManifestDir(t, map[string]string{"site.yaml": route})
	config := func(more string) string {
		return written(t, "ferrum.yaml", fmt.Sprintf(`
manifests: %s
drain: {delay: 0s}
redis:
  address: localhost:%s
  timeout: 20s # the machine may be slow
  tls: {enabled: true, caFile: %s, certFile: %s, keyFile: %s}
%s`, dir, port, cert, cert, key, more))
	}
	byFile := start(t, "--config", config("  passwordFile: "+written(t, "password", "s3cret\n")+"\n")).ready()
	t.Setenv(passwordVariable, "s3cret")
	byVariable := start(t, "--config", config("")).ready()
	statuses := ""
	for range 4 {
		for _, p := range []*process{byFile, byVariable} {
			eventually(t, "it counts in Redis", func() bool {
				_, body := p.do(p.admin+"/metrics", "")
				return strings.Contains(body, "ferrum_rate_limit_shared_up 1\n")
			})
			status, _ := p.get("a.example.com", "/")
			statuses += fmt.Sprint(status, " ")
		}
	}
	if statuses != "200 200 200 200 200 429 429 429 " {
		t.Errorf("of five together: %s", statuses)
	}
	_, body := byFile.do(byFile.admin+"/metrics", "")
	for _, line := range []string{
		`ferrum_rate_limit_shared_decisions_total{by="redis"} 4`, `ferrum_rate_limit_shared_decisions_total{by="memory"} 0`,
		`ferrum_rate_limit_shared_decisions_total{by="fallback"} 0`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
	server.Kill()
	// Two are left of five of its own. For up to a second it knows that Redis
	// would refuse, and does not ask.
	eventually(t, "it goes by its own part", func() bool { status, _ := byFile.get("a.example.com", "/"); return status == 200 })
	for _, want := range []int{200, 429} {
		if status, _ := byFile.get("a.example.com", "/"); status != want {
			t.Errorf("without Redis: %d, want %d", status, want)
		}
	}
	for _, p := range []*process{byFile, byVariable} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}
