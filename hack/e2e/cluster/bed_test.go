//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	node      = "198.18.0.1" // as hack/kube/cluster/boot.sh makes it
	nodePort  = "30080"
	door      = node + ":" + nodePort // where the release "ferrum" is reached from outside
	namespace = "ferrum-system"

	replicas = 3

	// patience bounds every wait, and is far longer than any should take: a machine
	// that is busy with something else must not fail a test. What is measured is
	// asserted apart (see timely).
	patience = 3 * time.Minute
)

// command runs a program and returns what it prints on its standard output.
func command(stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Minute) // what waits itself, waits patience
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, warnings bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &warnings
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, warnings.String(), out.String())
	}
	return out.String(), nil
}

// must runs a program that must succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command("", name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, "kubectl", args...)
}

// await waits until objects meet a condition; args are the condition and what is to
// meet it, as of kubectl wait.
func await(t *testing.T, namespace, condition string, objects ...string) {
	t.Helper()
	kubectl(t, append([]string{"-n", namespace, "wait", "--for=condition=" + condition, "--timeout=" + patience.String()}, objects...)...)
}

// rolledOut waits until a Deployment has only Pods of its latest version, all of
// them available. Older ones may be ending still.
func rolledOut(t *testing.T, namespace, name string) {
	t.Helper()
	kubectl(t, "-n", namespace, "rollout", "status", "deployment/"+name, "--timeout="+patience.String())
}

func apply(t *testing.T, objects string) {
	t.Helper()
	if _, err := command(objects, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// helm runs a command about the release "ferrum".
func helm(t *testing.T, verb string, args ...string) string {
	t.Helper()
	return must(t, "helm", append([]string{verb, "--namespace", namespace, "ferrum"}, args...)...)
}

// eventually waits until check returns nil and returns how long that took.
func eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := check()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > patience {
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// timely fails a test unless one of three measurements keeps within a bound. A busy
// machine may hold up any of them; what is slow by itself is so each time.
func timely(t *testing.T, what string, bound time.Duration, measure func() time.Duration) {
	t.Helper()
	var all []time.Duration
	for range 3 {
		took := measure().Round(time.Millisecond)
		if took <= bound {
			t.Logf("%s: %s", what, took)
			return
		}
		all = append(all, took)
	}
	t.Errorf("%s: %v, want at most %s once", what, all, bound)
}

// dialClient connects from the network namespace "client". A socket belongs to
// the namespace of the thread that makes it.
func dialClient(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		file, err := os.Open("/run/netns/client")
		if err != nil {
			done <- result{err: err}
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("enter the client's network: %w", err)}
			return
		}
		conn, err := (&net.Dialer{Timeout: 20 * time.Second}).DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// newClient returns a client outside of the cluster with one connection.
func newClient() *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second, // longer than a busy machine holds anything up
		Transport: &http.Transport{DialContext: dialClient, MaxConnsPerHost: 1, DisableCompression: true},
	}
}

// send asks a proxy at an address for http://host/path, with a body if the method is
// POST, and returns the answer's status and body.
func send(client *http.Client, method, to, host, path string) (int, string, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("hello")
	}
	req, err := http.NewRequest(method, "http://"+to+path, body)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// answers waits until a GET at an address of a proxy gets a status and an answer that
// begins with a text, and returns how long that took.
func answers(t *testing.T, at, host, path string, status int, begins string) time.Duration {
	t.Helper()
	client := newClient()
	defer client.CloseIdleConnections()
	return eventually(t, fmt.Sprintf("http://%s%s at %s answers %d %q", host, path, at, status, begins), func() error {
		got, body, err := send(client, http.MethodGet, at, host, path)
		if err == nil && (got != status || !strings.HasPrefix(body, begins)) {
			err = fmt.Errorf("got %d %q", got, body)
		}
		return err
	})
}

// pods returns the Pods with a label, in whatever state they are.
func pods(t *testing.T, namespace, label string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(kubectl(t, "-n", namespace, "get", "pods", "-l", label, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// onlyReady waits until the Pods with a label are so many, all of them ready and
// none on its way out, and returns them.
func onlyReady(t *testing.T, namespace, label string, n int) (all []corev1.Pod) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d Pods %s are there, all ready", n, label), func() error {
		all = pods(t, namespace, label)
		if len(all) != n {
			return fmt.Errorf("%d", len(all))
		}
		for _, p := range all {
			if p.DeletionTimestamp != nil || !ready(p) {
				return fmt.Errorf("%s is not ready: %+v", p.Name, p.Status.Conditions)
			}
		}
		return nil
	})
	return all
}

func ready(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// restarts is how often a Pod's container has started again.
func restarts(p corev1.Pod) int32 { return p.Status.ContainerStatuses[0].RestartCount }

// replicasOnly waits until the release "ferrum" has so many replicas, all of them
// ready, and those from before are gone.
func replicasOnly(t *testing.T, n int) []corev1.Pod {
	t.Helper()
	return onlyReady(t, namespace, "app.kubernetes.io/name=ferrum-proxy", n)
}

// admin asks Pods, from the node.
var admin = &http.Client{Timeout: 30 * time.Second}

// metrics returns what a Pod's admin port shows.
func metrics(ip string) (string, error) {
	res, err := admin.Get("http://" + net.JoinHostPort(ip, "9090") + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(body), err
}
