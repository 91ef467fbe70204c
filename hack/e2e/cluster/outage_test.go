//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	all := replicasOnly(t, replicas)

	l := startLoad(http.MethodPost)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(outage) // there is nothing to wait for: that nothing happens is the point
	for _, p := range all {
		eventually(t, p.Name+" counts watch errors", func() error {
			text, err := metrics(p.Status.PodIP)
			if err == nil && !strings.Contains(text, "ferrum_controller_watch_errors_total{") {
				err = errors.New("none")
			}
			return err
		})
	}
	if _, err := command("", "kubectl", "get", "--raw", "/readyz"); err == nil {
		t.Error("the API server was there all the time")
	}
	l.mustLoseNothing(t, fmt.Sprintf("%s without the API server", outage))
	servesSnapshot(t, all[0])

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

	// It is ready before it serves what it learns from CRDs.
	eventually(t, "an edit is taken", func() error { _, err := command(route("api"), "kubectl", "apply", "-f", "-"); return err })
	took := answers(t, door, host, "/api", 200, "api-")
	t.Logf("an edit after the outage is served after %s", took.Round(time.Millisecond))
}

// servesSnapshot kills a replica while the API server is away. The kubelet starts
// its container again, which knows the routes from the process before.
func servesSnapshot(t *testing.T, pod corev1.Pod) {
	kill(t, "/ferrum", pod.Name)
	took := eventually(t, "the replica serves again", func() error {
		text, err := metrics(pod.Status.PodIP)
		if err != nil {
			return err
		}
		status, body, err := send(admin, http.MethodGet, net.JoinHostPort(pod.Status.PodIP, "8080"), host, "/")
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
