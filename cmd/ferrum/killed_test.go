package main

import (
	"fmt"
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
	got := make([]byte, 100)
	n, _ := res.Body.Read(got)
	if res.StatusCode != 200 || string(got[:n]) != want {
		return fmt.Errorf("got %d %q", res.StatusCode, got[:n])
	}
	return nil
}

// more waits until n more requests were answered.
func (tr *asking) more(t *testing.T, n int64) {
	t.Helper()
	until := tr.asked.Load() + n
	eventually(t, "more requests", func() bool { return tr.asked.Load() >= until })
}

// startInCluster runs a process against an API server, with a snapshot in dir; "": none.
func startInCluster(t *testing.T, kubeconfig, dir string) *process {
	t.Helper()
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("snapshot: {directory: %q}\n", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "--kubeconfig", kubeconfig, "--config", config, "--drain-delay", "0s")
}

// TestTheAPIServerIsKilled: whoever runs goes on, who starts has the snapshot,
// and who starts without one says so.
func TestTheAPIServerIsKilled(t *testing.T) {
	t.Parallel()
	s := kubetest.Start(t)
	c, kubeconfig, dir := s.Client(t), s.Kubeconfig(t), t.TempDir()
	createAll(t, c, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n---\n"+oneRoute("a.example.com", reachable(t, "one")))
	running, restarted := startInCluster(t, kubeconfig, "").ready(), startInCluster(t, kubeconfig, dir).ready()
	for _, p := range []*process{running, restarted} {
		eventually(t, "the route is served", func() bool { status, _ := p.get("a.example.com", "/"); return status == 200 })
	}
	all := askAllTheTime(t, running, "a.example.com", "one")
	all.more(t, 100)
	s.KillAPI(t)
	all.more(t, 400)

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

	all.stop()
	t.Logf("%d requests answered", all.asked.Load())
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
