package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// servedPlan sends a host to an address.
func servedPlan(host, addr string) plan.Plan {
	key := plan.PoolKey{Namespace: "web", Service: "app", Port: 80}
	return plan.Plan{
		Routes: []*plan.Route{{Namespace: "web", Name: "site", Hostnames: []string{host}, Rules: []plan.Rule{{
			Name: "all", Matches: []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}}}, Legs: []plan.Leg{{Weight: 1, Pool: key}},
		}}}},
		Pools: []plan.Pool{{Key: key, Endpoints: []plan.Endpoint{{Addr: netip.MustParseAddrPort(addr)}}}},
	}
}

// keepPlan leaves a plan in a directory, as a process that has served it does.
func keepPlan(t *testing.T, dir string, p plan.Plan) {
	t.Helper()
	k, err := newKeeper(dir, &rest.Config{Host: "http://127.0.0.1:1"}, func(plan.Plan) error { return nil }, prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	err = k.run(t.Context(), func(context.Context) error { return k.Apply(p) })
	if err != nil {
		t.Fatal(err)
	}
}

// startWithout runs the proxy with a snapshot directory and an API server at a
// URL that is of no use.
func startWithout(t *testing.T, api, dir string) *process {
	t.Helper()
	files := t.TempDir()
	kubeconfig, config := filepath.Join(files, "kubeconfig"), filepath.Join(files, "ferrum.yaml")
	for file, content := range map[string]string{
		kubeconfig: fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\n"+
			"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", api),
		config: "snapshot: {directory: " + dir + "}\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, "--kubeconfig", kubeconfig, "--config", config, "--drain-delay", "0s")
}

func TestARestartWithoutTheAPIServerServesTheSnapshot(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangs.Close() })
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	t.Cleanup(broken.Close)
	for name, api := range map[string]string{
		"refuses": "http://127.0.0.1:1", "hangs": "http://" + hangs.Addr().String(), "is behind a proxy that answers 503": broken.URL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			keepPlan(t, dir, servedPlan("a.example.com", backend(t, "one")))
			p := startWithout(t, api, dir).ready()
			if status, body := p.get("a.example.com", "/"); status != 200 || body != "one" {
				t.Errorf("got %d %q", status, body)
			}
			listening := p.log.wait(t, "listening", func(l entry) bool { return l["msg"] == "listening" })
			line := p.log.wait(t, "what is served", func(l entry) bool { return strings.Contains(fmt.Sprint(l["msg"]), "serving the snapshot") })
			t.Logf("served from %v on, listening since %v", line["time"], listening["time"])
			if n := p.metric("ferrum_config_snapshot_in_use"); n != 1 {
				t.Errorf("the metric says %v", n)
			}
			p.signal(syscall.SIGTERM)
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestAnAPIServerThatHangsIsGivenUpInTimeAndOneThatAnswersIsWaitedForLonger(t *testing.T) {
	for name, c := range map[string]struct {
		answers []bool // the first ones; after them it answers
		after   time.Duration
	}{
		"hangs":                     {[]bool{false, false}, 2*probeTimeout + probePause},
		"hangs once":                {[]bool{false}, snapshotPatience},
		"answers and gives no plan": {nil, snapshotPatience},
		"goes while we wait":        {[]bool{true, false, false}, 2*probeTimeout + 2*probePause},
		"comes back and hangs":      {[]bool{false, true, false, false}, 3*probeTimeout + 3*probePause},
	} {
		dir := t.TempDir()
		keepPlan(t, dir, servedPlan("old.example.com", "127.0.0.1:1"))
		synctest.Test(t, func(t *testing.T) {
			var restored time.Duration
			began := time.Now()
			k, err := newKeeper(dir, &rest.Config{Host: "http://127.0.0.1:1"}, func(plan.Plan) error {
				restored = time.Since(began)
				return nil
			}, prometheus.NewRegistry(), logr.Discard())
			if err != nil {
				t.Fatal(err)
			}
			k.answers = func(context.Context) bool {
				if len(c.answers) == 0 {
					return true // and nothing more: there never is a plan
				}
				answer := c.answers[0]
				if c.answers = c.answers[1:]; !answer {
					time.Sleep(probeTimeout)
				}
				return answer
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			k.bridge(ctx)
			if restored != c.after || restored > 2*time.Second && name == "hangs" {
				t.Errorf("%s: served after %s, want %s", name, restored, c.after)
			}
		})
	}
}

func TestASnapshotThatIsDamagedIsNotServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plan"), []byte("ferrum-plan 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startWithout(t, "http://127.0.0.1:1", dir).listens()
	p.log.wait(t, "the refusal", func(l entry) bool { return strings.Contains(fmt.Sprint(l["msg"]), "the snapshot cannot be used") })
	if status, body := p.get("a.example.com", "/"); status != 503 || body != "503 no_table\n" {
		t.Errorf("got %d %q", status, body)
	}
	if status := p.status(p.admin + "/readyz"); status != 503 {
		t.Errorf("readyz: %d", status)
	}
}

// An API server that is slow to give the first plan is not one that is away, and
// a snapshot never replaces what the controllers have given.
func TestTheSnapshotGivesWayToTheAPIServer(t *testing.T) {
	dir := t.TempDir()
	keepPlan(t, dir, servedPlan("old.example.com", "127.0.0.1:1"))
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }))
	defer api.Close()
	var hosts []string
	k, err := newKeeper(dir, &rest.Config{Host: api.URL}, func(p plan.Plan) error {
		hosts = append(hosts, p.Routes[0].Hostnames[0])
		return nil
	}, prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if !k.answers(t.Context()) {
		t.Error("an API server that refuses counts as one that is away")
	}
	k.restore("it is away")
	if err := k.Apply(servedPlan("new.example.com", "127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	k.restore("it is away")
	if got := fmt.Sprint(hosts); got != "[old.example.com new.example.com]" {
		t.Errorf("applied %s", got)
	}
	k.apply = func(plan.Plan) error { return errors.New("refused") }
	if err := k.Apply(servedPlan("bad.example.com", "127.0.0.1:1")); err == nil {
		t.Error("the refusal was not passed on")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.run(ctx, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if p, _, err := k.store.Load(); err != nil || p.Plan.Routes[0].Hostnames[0] != "new.example.com" {
		t.Errorf("kept %v, %v; want the last good one", p.Plan.Routes, err)
	}
}

// A replica that was started without the API server took itself for the only one:
// each let through all of a limit that is for all of them together.
func TestWithTheSnapshotALimitOfAllReplicasStaysDivided(t *testing.T) {
	dir := t.TempDir()
	process := func(replicas func(n int), source func(k *keeper)) {
		t.Helper()
		k, err := newKeeper(dir, &rest.Config{Host: "http://127.0.0.1:1"}, func(plan.Plan) error { return nil }, prometheus.NewRegistry(), logr.Discard())
		if err != nil {
			t.Fatal(err)
		}
		k.answers = func(context.Context) bool { return true }
		k.replicas = replicas
		if err := k.run(t.Context(), func(context.Context) error { source(k); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	apply := func(k *keeper) {
		if err := k.Apply(servedPlan("a.example.com", "127.0.0.1:1")); err != nil {
			t.Error(err)
		}
	}
	var told []int
	tell := func(n int) { told = append(told, n) }
	want := func(when, want string) {
		t.Helper()
		if got := fmt.Sprint(told); got != want {
			t.Errorf("%s it is told of %s replicas, want %s", when, got, want)
		}
		told = nil
	}
	away := func(k *keeper) { k.restore("it is away") }
	process(tell, func(k *keeper) { k.setReplicas(3); apply(k) })
	want("with the API server", "[3]")
	process(tell, away)
	want("without", "[3]")
	process(nil, away) // whose settings do not say who the replicas are
	process(tell, func(k *keeper) { away(k); apply(k) })
	want("when it is back, and no replica ready yet,", "[3]")
	process(tell, func(k *keeper) { k.setReplicas(4); away(k); apply(k) })
	want("when the plan only is late", "[4]")
	process(tell, away)
	want("the next time", "[4]")
}
