//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	node      = "198.18.0.1" // as hack/kube/cluster/boot.sh makes it
	nodePort  = "30080"
	namespace = "ferrum-system"

	replicas = 3

	// patience bounds every wait; what is measured is asserted apart.
	patience = 2 * time.Minute
)

// command runs a program and returns what it prints on its standard output.
func command(stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
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
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// newClient returns a client outside of the cluster with one connection.
func newClient() *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: dialClient, MaxConnsPerHost: 1, DisableCompression: true},
	}
}

// ask gets http://host/path from the node's port and returns the answer's status
// and body.
func ask(client *http.Client, host, path string) (int, string, error) {
	return send(client, http.MethodGet, net.JoinHostPort(node, nodePort), host, path)
}

// send is ask with a method, POST with a body, and an address of the proxy.
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

// answers waits until a request gets a status and an answer that begins with a
// text, and returns how long that took.
func answers(t *testing.T, host, path string, status int, begins string) time.Duration {
	t.Helper()
	client := newClient()
	defer client.CloseIdleConnections()
	return eventually(t, fmt.Sprintf("http://%s%s answers %d %q", host, path, status, begins), func() error {
		got, body, err := ask(client, host, path)
		if err == nil && (got != status || !strings.HasPrefix(body, begins)) {
			err = fmt.Errorf("got %d %q", got, body)
		}
		return err
	})
}

// podAddresses returns the addresses of the proxy's Pods by name.
func podAddresses(t *testing.T) map[string]string {
	t.Helper()
	return addresses(t, namespace, "app.kubernetes.io/name=ferrum-proxy")
}

// addresses returns the addresses of the running Pods with a label by name.
func addresses(t *testing.T, namespace, label string) map[string]string {
	t.Helper()
	out := kubectl(t, "-n", namespace, "get", "pods", "-l", label,
		"--field-selector=status.phase=Running", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}`)
	all := make(map[string]string)
	for line := range strings.Lines(out) {
		if name, ip, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[name] = ip
		}
	}
	return all
}

// metrics returns what a Pod's admin port shows.
func metrics(ip string) (string, error) {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + net.JoinHostPort(ip, "9090") + "/metrics")
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
