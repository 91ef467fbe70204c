//go:build promtool

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// fault is a way to make things go wrong, and the alerts that tell of it. What no
// fault can be made for is written into a scrape of the process ("edited").
type fault struct {
	name  string
	fires []string
	at    int // minute of the question; 0 = the last
	run   func(*testing.T) []target
}

var faults = []fault{
	{"nothing", nil, 0, nothing},
	{"the backend refuses connections", []string{"FerrumUpstreamFailureRatioHigh"}, 0, refuses},
	{"the backend is not there", []string{"FerrumProxyFailureRatioHigh"}, 0, unresolved},
	{"retries use up their budget", []string{"FerrumRetryBudgetExhausted"}, 0, exhausted},
	{"one of two endpoints is ejected", []string{"FerrumEndpointsEjected"}, 0, ejected},
	{"the only endpoint cannot be ejected", []string{"FerrumEjectionsSkipped", "FerrumUpstreamFailureRatioHigh"}, 0, notEjected},
	{"no endpoint passes its checks", []string{"FerrumBackendPanic"}, 0, unhealthy},
	{"a drain is too short", []string{"FerrumDrainCutRequests"}, begins + 5, drained},
	{"Redis is away", []string{"FerrumRateLimitSharedDown"}, 0, redisAway},
	{"there are too many connections", []string{"FerrumConnectionsRefused"}, 0, crowded},
	{"there are too few file descriptors", []string{"FerrumAcceptErrors"}, 0, outOfFiles},
	{"nobody can take the access log", []string{"FerrumAccessLogDropped"}, 0, logLost},
	{"a defect, edited", []string{"FerrumInternalErrors"}, begins + 5, defect},
	{"replicas read different manifests", []string{"FerrumReplicasDisagree"}, 0, disagree},
	{"a start without the API server", []string{"FerrumNoStatusWriter", "FerrumNoTable"}, 0, withoutAPIServer},
	{"a start from the snapshot", []string{"FerrumNoStatusWriter", "FerrumSnapshotInUse"}, 0, fromSnapshot},
}

// TestEachAlertFiresUnderItsFaultAndEachPanelShowsSomething lets promtool judge the
// chart's alerts and dashboard by what the process really exports.
func TestEachAlertFiresUnderItsFaultAndEachPanelShowsSomething(t *testing.T) {
	var (
		mu    sync.Mutex
		cases []promtoolCase
	)
	add := func(f fault, targets []target) {
		c := promtoolCase{Name: f.name, Interval: "1m"}
		for _, target := range targets {
			c.Series = append(c.Series, target.series(strings.ReplaceAll(f.name, " ", "-"))...)
		}
		if f.at == 0 {
			f.at = minutes - 1
		}
		c.Questions = []question{fires(f.at, f.fires...)}
		mu.Lock()
		defer mu.Unlock()
		cases = append(cases, c)
	}
	t.Run("fault", func(t *testing.T) {
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				add(f, f.run(t))
			})
		}
		t.Run("in a cluster", func(t *testing.T) {
			t.Parallel()
			inCluster(t, add)
		})
	})
	if t.Failed() {
		return
	}
	all := promtoolCase{Name: "the dashboard", Interval: "1m"}
	for _, c := range cases {
		all.Series = append(all.Series, c.Series...)
	}
	for _, expr := range dashboard(t) {
		all.Questions = append(all.Questions, shows(expr))
	}
	for _, c := range append(cases, all) {
		promtool(t, c)
	}
	for _, name := range alertNames(t) {
		if !strings.Contains(fmt.Sprint(cases), `"`+name+`"`) {
			t.Errorf("no fault makes %s fire", name)
		}
	}
}

// scrape returns the metrics of p.
func (p *process) scrape() string {
	p.t.Helper()
	status, text := p.do(p.admin+"/metrics", "")
	if status != http.StatusOK {
		p.t.Fatalf("metrics: %d", status)
	}
	return text
}

// rounds scrapes p, and again after each of three rounds of something.
func rounds(p *process, do func()) []target {
	p.t.Helper()
	t := target{name: "a", scrapes: []string{p.scrape()}}
	for range 3 {
		do()
		t.scrapes = append(t.scrapes, p.scrape())
	}
	return []target{t}
}

// requests sends so many that it is more than a few a minute.
func requests(p *process) func() {
	return func() {
		for range 30 {
			_, _ = p.get("a.example.com", "/")
		}
	}
}

// serving starts a process with oneRoute to an address, changed: what stands at
// even places by what follows it.
func serving(t *testing.T, addr string, change ...string) *process {
	t.Helper()
	dir := newManifestDir(t, map[string]string{"site.yaml": strings.NewReplacer(change...).Replace(oneRoute("a.example.com", addr))})
	return start(t, "--manifests", string(dir)).ready()
}

const refs = "    backendRefs: [{name: app, port: 80}]\n"

func nothing(t *testing.T) []target {
	p := serving(t, backend(t, "one"))
	return rounds(p, requests(p))
}

func refuses(t *testing.T) []target {
	p := serving(t, refusing(t), refs, refs+"    backendPolicy: {healthCheck: {passive: {consecutiveFailures: 0}}}\n")
	return rounds(p, requests(p))
}

func unresolved(t *testing.T) []target {
	p := serving(t, backend(t, "one"), refs, strings.ReplaceAll(refs, "app", "nobody"))
	return rounds(p, requests(p))
}

// exhausted has two endpoints that answer 503, and a budget of nothing.
func exhausted(t *testing.T) []target {
	broken := func() string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	manifest := strings.Replace(oneRoute("a.example.com", broken()), refs, refs+"    retry: {attempts: 2, conditions: [Codes], codes: [503]}\n"+
		"    backendPolicy: {healthCheck: {passive: {consecutiveFailures: 0}}, retryBudget: {percent: 0, minRetryRate: {count: 0}}}\n", 1)
	dir := newManifestDir(t, map[string]string{"site.yaml": withSlice(manifest, "app-2", broken())})
	p := start(t, "--manifests", string(dir)).ready()
	return rounds(p, requests(p))
}

func ejected(t *testing.T) []target {
	dir := newManifestDir(t, map[string]string{"site.yaml": withSlice(oneRoute("a.example.com", backend(t, "good")), "app-2", refusing(t))})
	p := start(t, "--manifests", string(dir)).ready()
	out := rounds(p, requests(p))
	eventually(t, "it is ejected", func() bool {
		requests(p)()
		return strings.Contains(p.scrape(), `service="app",state="ejected"} 1`)
	})
	out[0].scrapes = append(out[0].scrapes, p.scrape())
	return out
}

func notEjected(t *testing.T) []target {
	p := serving(t, refusing(t))
	return rounds(p, requests(p))
}

func unhealthy(t *testing.T) []target {
	p := serving(t, refusing(t), refs, refs+"    backendPolicy: {healthCheck: {active: {type: TCP, interval: 1s, timeout: 500ms, unhealthyThreshold: 1}}}\n")
	eventually(t, "it knows", func() bool {
		return strings.Contains(p.scrape(), `ferrum_upstream_panic{namespace="web",port="80",service="app"} 1`)
	})
	return rounds(p, func() {})
}

// drained is scraped between the end of requests' time and that of a WebSocket's.
// Without such a one the process would be gone before anybody could ask it.
func drained(t *testing.T) []target {
	s := httptest.NewServer(http.HandlerFunc(slowOrUpgraded))
	t.Cleanup(s.Close)
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", s.Listener.Addr().String())})
	p := start(t, "--manifests", string(dir), "--drain-delay", "0s", "--drain-timeout", "0s").ready()
	before := p.scrape()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(p.http, "http")+"/ws", &websocket.DialOptions{Host: "a.example.com"}) //nolint:bodyclose // the body is the connection
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	slow := p.connect()
	if _, err := fmt.Fprint(slow, "GET /slow HTTP/1.1\r\nHost: a.example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.r.ReadString('\n'); err != nil { // the response has begun
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	eventually(t, "it is cut", func() bool { return strings.Contains(p.scrape(), `reason="shutdown"`) })
	return []target{{name: "a", scrapes: []string{before, p.scrape()}, ended: true}}
}

func redisAway(t *testing.T) []target {
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir), "--config", written(t, "ferrum.yaml", "redis: {address: "+refusing(t)+"}\n")).ready()
	eventually(t, "it has been looked for", func() bool { return p.metric("ferrum_rate_limit_shared_errors_total") > 0 })
	return rounds(p, requests(p))
}

func crowded(t *testing.T) []target {
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir), "--max-connections", "1").ready()
	if status, _ := p.connect().say(getSite); status != http.StatusOK {
		t.Fatalf("the first connection got %d", status)
	}
	return rounds(p, requests(p))
}

func outOfFiles(t *testing.T) []target {
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := startBy(t, underLimit, "--manifests", string(dir), "--max-connections", "1000").ready()
	failures := 0.0
	return rounds(p, func() {
		eventually(t, "there are new failures", func() bool {
			var held []net.Conn
			for range 100 {
				held = append(held, p.connect())
			}
			for _, c := range held {
				_ = c.Close()
			}
			return p.metric("ferrum_accept_errors_total") > failures
		})
		failures = p.metric("ferrum_accept_errors_total")
	})
}

func logLost(t *testing.T) []target {
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := startBy(t, []string{"/bin/sh", "-c", `exec "$@" >/dev/full`, "sh"}, "--manifests", string(dir)).ready()
	lost := 0.0
	return rounds(p, func() {
		requests(p)()
		eventually(t, "lines are lost", func() bool { return p.metric(`ferrum_access_log_dropped_total{reason="error"}`) > lost })
		lost = p.metric(`ferrum_access_log_dropped_total{reason="error"}`)
	})
}

// defect shows one failure of a kind that was not there before.
func defect(t *testing.T) []target {
	p := serving(t, backend(t, "one"), refs, strings.ReplaceAll(refs, "app", "nobody"))
	before := p.scrape()
	_, _ = p.get("a.example.com", "/")
	eventually(t, "it is counted", func() bool { return strings.Contains(p.scrape(), `reason="backend_unresolved"`) })
	after := strings.ReplaceAll(p.scrape(), `reason="backend_unresolved"`, `reason="internal"`)
	return []target{{name: "a", scrapes: []string{before, after, after}}}
}

func disagree(t *testing.T) []target {
	addr := backend(t, "one")
	one := serving(t, addr)
	two := serving(t, addr, refs, refs+"  - name: more\n    matches: [{path: {type: PathPrefix, value: /more}}]\n"+refs)
	return []target{{name: "a", scrapes: []string{one.scrape()}}, {name: "b", scrapes: []string{two.scrape()}}}
}

func withoutAPIServer(t *testing.T) []target {
	return rounds(startWithout(t, "http://127.0.0.1:1", t.TempDir()).listens(), func() {})
}

func fromSnapshot(t *testing.T) []target {
	dir := t.TempDir()
	keepPlan(t, dir, servedPlan("a.example.com", backend(t, "one")))
	return rounds(startWithout(t, "http://127.0.0.1:1", dir).ready(), func() {})
}

// alertNames returns the names of the chart's alerts.
func alertNames(t *testing.T) (all []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chartFiles, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if _, name, ok := strings.Cut(l, "- alert: "); ok {
			all = append(all, strings.TrimSpace(name))
		}
	}
	return all
}
