package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// ownAddress is an address of this machine that an EndpointSlice may have, which
// is none of loopback's.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Fatal("the machine has no IPv4 address but loopback's: an endpoint in the API server needs one")
	return ""
}

// reachable is a backend at the machine's own address.
func reachable(t *testing.T, text string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, text)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// createAll creates what a file of manifests has in the API server.
func createAll(t *testing.T, c client.Client, manifests string) {
	t.Helper()
	for _, doc := range strings.Split(manifests, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// asking is requests to a proxy without a pause, on connections that are kept,
// until it is stopped; each answer but the right one fails the test.
type asking struct {
	asked atomic.Int64
	stop  func()
}

func askAllTheTime(t *testing.T, p *process, host, body string) *asking {
	tr := &asking{}
	var running sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		running.Go(func() {
			c := &http.Client{Timeout: patience, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				if err := askOnce(c, p.http, host, body); err != nil {
					t.Errorf("request %d: %v", tr.asked.Load(), err)
				}
				tr.asked.Add(1)
			}
		})
	}
	tr.stop = sync.OnceFunc(func() { close(done); running.Wait() })
	t.Cleanup(tr.stop)
	return tr
}

func askOnce(c *http.Client, url, host, want string) error {
	req, err := http.NewRequest(http.MethodGet, url+"/", nil)
	if err != nil {
		return err
	}
	req.Host = host
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != 200 || string(got) != want {
		return fmt.Errorf("got %d %q", res.StatusCode, got)
	}
	return nil
}

// more waits until n more requests were answered.
func (tr *asking) more(t *testing.T, n int64) {
	t.Helper()
	until := tr.asked.Load() + n
	eventually(t, "more requests", func() bool { return tr.asked.Load() >= until })
}

// startInCluster runs a process against an API server, with a snapshot in dir; "":
// none. It logs each plan that it applies.
func startInCluster(t *testing.T, kubeconfig, dir string) *process {
	t.Helper()
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("snapshot: {directory: %q}\n", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "--kubeconfig", kubeconfig, "--config", config, "--drain-delay", "0s", "--log-level", "debug")
}

// TestTheAPIServerIsKilled: whoever runs goes on, who starts has the snapshot, and
// who starts without one says so. When it is back, all of them serve what was edited
// then, and there was no table in between with less in it.
func TestTheAPIServerIsKilled(t *testing.T) {
	t.Parallel()
	s := kubetest.Start(t)
	c, kubeconfig, dir := s.Client(t), s.Kubeconfig(t), t.TempDir()
	createAll(t, c, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n---\n"+oneRoute("a.example.com", reachable(t, "one")))
	createAll(t, c, strings.NewReplacer("name: site", "name: other", "name: app", "name: app2").Replace(
		strings.SplitN(oneRoute("c.example.com", reachable(t, "other")), "\n---\n", 2)[1]))
	running, restarted := startInCluster(t, kubeconfig, "").ready(), startInCluster(t, kubeconfig, dir).ready()
	for _, p := range []*process{running, restarted} {
		eventually(t, "the route is served", func() bool { status, _ := p.get("a.example.com", "/"); return status == 200 })
	}
	eventually(t, "the snapshot is written", func() bool {
		return restarted.metric(`ferrum_config_snapshot_writes_total{result="success"}`) > 0
	})
	all := []*asking{askAllTheTime(t, running, "a.example.com", "one"), askAllTheTime(t, running, "c.example.com", "other")}
	all[0].more(t, 100)
	s.KillAPI(t)
	all[0].more(t, 400)

	restarted.signal(syscall.SIGKILL)
	<-restarted.exited
	began := time.Now()
	restarted = startInCluster(t, kubeconfig, dir).ready()
	if status, body := restarted.get("a.example.com", "/"); status != 200 || body != "one" {
		t.Errorf("from the snapshot: %d %q", status, body)
	}
	t.Logf("started and served from the snapshot after %s", time.Since(began))
	restarted.log.wait(t, "what is served", func(l entry) bool { return strings.Contains(fmt.Sprint(l["msg"]), "serving the snapshot") })
	if n := restarted.metric("ferrum_config_snapshot_in_use"); n != 1 {
		t.Errorf("the metric says %v", n)
	}
	cold := startInCluster(t, kubeconfig, t.TempDir()).listens()
	cold.log.wait(t, "that there is nothing", func(l entry) bool { return strings.Contains(fmt.Sprint(l["msg"]), "there is no snapshot") })
	if status, body := cold.get("a.example.com", "/"); status != 503 || body != "503 no_table\n" {
		t.Errorf("a cold start: %d %q", status, body)
	}
	if status := cold.status(cold.admin + "/readyz"); status != 503 {
		t.Errorf("a cold start is ready: %d", status)
	}

	all = append(all, askAllTheTime(t, restarted, "a.example.com", "one"), askAllTheTime(t, restarted, "c.example.com", "other"))
	s.StartAPI(t)
	followTheEdit(t, c, running, restarted, cold)
	if n := restarted.metric("ferrum_config_snapshot_in_use"); n != 0 {
		t.Errorf("the API server is back, and the metric says %v", n)
	}
	for _, tr := range all {
		tr.more(t, 100)
		tr.stop()
		t.Logf("%d requests answered", tr.asked.Load())
	}
}

// followTheEdit gives the route "site" another hostname, waits until the processes
// serve that, and looks at all tables that they had: each has both routes.
func followTheEdit(t *testing.T, c client.Client, processes ...*process) {
	t.Helper()
	eventually(t, "the edit is taken", func() bool {
		var route v1alpha1.ProxyRoute
		if c.Get(t.Context(), client.ObjectKey{Namespace: "web", Name: "site"}, &route) != nil {
			return false // the kinds come a little after the API server says that it is well
		}
		route.Spec.Hostnames = append(route.Spec.Hostnames, "b.example.com")
		return c.Update(t.Context(), &route) == nil
	})
	began := time.Now()
	for i, p := range processes {
		eventually(t, "the edit is served", func() bool { status, body := p.get("b.example.com", "/"); return status == 200 && body == "one" })
		t.Logf("process %d serves the edit after %s", i, time.Since(began))
		if status := p.status(p.admin + "/readyz"); status != 200 {
			t.Errorf("process %d serves the edit and is not ready: %d", i, status)
		}
		most := map[string]float64{"routes": 2, "services": 2, "endpointSlices": 2}
		if tables := p.log.count(func(l entry) bool { return l["msg"] == "applied a plan" && !shrinks(t, l, most) }); tables == 0 {
			t.Errorf("process %d has said nothing of its tables", i)
		}
	}
}

// shrinks fails the test when a plan that was applied has less of something than
// there was before.
func shrinks(t *testing.T, l entry, most map[string]float64) (less bool) {
	t.Helper()
	for what, n := range most {
		if got := l[what].(float64); got < n {
			t.Errorf("a plan has %v %s where %v were: %v", got, what, n, l)
			less = true
		} else {
			most[what] = got
		}
	}
	return less
}

// TestTheLeaderIsKilled: another replica writes statuses within the time of the
// Lease, and the traffic of the others does not notice.
func TestTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	s := kubetest.Start(t)
	c, kubeconfig := s.Client(t), s.Kubeconfig(t)
	for _, ns := range []string{"web", "ferrum-system"} {
		createAll(t, c, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}\n")
	}
	createAll(t, c, oneRoute("a.example.com", reachable(t, "one")))
	first := startInCluster(t, kubeconfig, "").ready()
	const leader = "ferrum_controller_status_leader"
	eventually(t, "the first one leads", func() bool { return first.metric(leader) == 1 })
	second := startInCluster(t, kubeconfig, "").ready()
	eventually(t, "the second one serves", func() bool { status, _ := second.get("a.example.com", "/"); return status == 200 })
	all := askAllTheTime(t, second, "a.example.com", "one")
	all.more(t, 100)
	builds := second.metric("ferrum_controller_builds_total")

	first.signal(syscall.SIGKILL)
	<-first.exited
	began := time.Now()
	for deadline := began.Add(3 * patience); second.metric(leader) != 1; {
		if time.Now().After(deadline) {
			t.Fatal("nobody leads")
		}
		all.more(t, 10)
	}
	t.Logf("another one leads after %s", time.Since(began))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ferrum-system", Name: controllers.LeaseName}}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(lease), lease); err != nil {
		t.Fatal(err)
	}
	if n := *lease.Spec.LeaseTransitions; n != 1 {
		t.Errorf("the Lease changed hands %d times", n)
	}
	if n := second.metric("ferrum_controller_builds_total"); n != builds {
		t.Errorf("%v plans were built for it", n-builds)
	}
	createAll(t, c, strings.Replace(strings.Split(oneRoute("b.example.com", ""), "\n---\n")[1], "name: site", "name: more", 1))
	eventually(t, "the second one writes statuses", func() bool {
		return second.metric(`ferrum_controller_status_writes_total{result="written"}`) > 0
	})
	all.stop()
	t.Logf("%d requests answered", all.asked.Load())
}
