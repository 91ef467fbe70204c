//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outage is how long the API server is away.
const outage = 30 * time.Second

// outlivesAPIServer takes the API server away for a while and starts it again
// with the command line that it had.
func outlivesAPIServer(t *testing.T) {
	logs := filepath.Join(os.Getenv("RUN"), "log")
	text, err := os.ReadFile(filepath.Join(logs, "kube-apiserver.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	pods := podAddresses(t)

	l := startLoad(http.MethodPost)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(outage) // there is nothing to wait for: that nothing happens is the point
	for name, ip := range pods {
		if text, err := metrics(ip); err != nil || !strings.Contains(text, "ferrum_controller_watch_errors_total{") {
			t.Errorf("%s counts no watch errors: %v", name, err)
		}
	}
	if _, err := command("", "kubectl", "get", "--raw", "/readyz"); err == nil {
		t.Error("the API server was there all the time")
	}
	l.mustLoseNothing(t, fmt.Sprintf("%s without the API server", outage))
	servesSnapshot(t, pods)

	args := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	again := exec.Command(args[0], args[1:]...)
	out, err := os.Create(filepath.Join(logs, "kube-apiserver-again.log"))
	if err != nil {
		t.Fatal(err)
	}
	again.Stdout, again.Stderr = out, out
	if err := again.Start(); err != nil { // ends with the cluster
		t.Fatal(err)
	}
	eventually(t, "the API server answers", func() error { _, err := command("", "kubectl", "get", "--raw", "/readyz"); return err })

	apply(t, route("api"))
	took := answers(t, host, "/api", 200, "api-")
	t.Logf("an edit after the outage is served after %s", took.Round(time.Millisecond))
}

// servesSnapshot kills a replica while the API server is away. The kubelet starts
// its container again, which knows the routes from the process before.
func servesSnapshot(t *testing.T, pods map[string]string) {
	name := slices.Min(slices.Collect(maps.Keys(pods)))
	kill(t, "/ferrum", name)
	client := newClient()
	defer client.CloseIdleConnections()
	client.Transport = nil // a Pod is reached from the node
	took := eventually(t, "the replica serves again", func() error {
		text, err := metrics(pods[name])
		if err != nil {
			return err
		}
		status, body, err := send(client, http.MethodGet, net.JoinHostPort(pods[name], "8080"), host, "/")
		if err != nil || status != 200 {
			return fmt.Errorf("%d %q %w", status, body, err)
		}
		if sample(t, text, "ferrum_config_snapshot_in_use") != 1 {
			return errors.New("it does not say that it serves the snapshot")
		}
		return nil
	})
	t.Logf("a replica that was killed meanwhile served the snapshot after %s", took.Round(time.Millisecond))
}
