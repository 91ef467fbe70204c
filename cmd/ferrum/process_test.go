package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtBinary is the environment's variable for a binary that is built already.
const builtBinary = "FERRUM_TEST_BINARY"

// patience bounds every wait for something that should happen soon.
const patience = 20 * time.Second

// binary builds the command once for all tests, as a user would.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(builtBinary); path != "" {
		return path, nil
	}
	path := filepath.Join(binaryDir, "ferrum")
	out, err := exec.Command("go", "build", "-ldflags=-X main.version=v0.0.0-test", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var binaryDir string

func TestMain(m *testing.M) {
	if os.Getenv(beBackend) != "" {
		serveAsBackend()
	}
	var err error
	if binaryDir, err = os.MkdirTemp("", "ferrum-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// process is a running `ferrum run`.
type process struct {
	t           *testing.T
	cmd         *exec.Cmd
	http, admin string // URLs; "" until it listens
	log, access *journal
	outputs     []io.Closer // from which the two are read
	exited      chan struct{}
}

// start runs `ferrum run` with free ports and the given arguments.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startBy(t, nil, args...)
}

// startBy is start by another command, which runs what its arguments say.
func startBy(t *testing.T, by []string, args ...string) *process {
	t.Helper()
	return launch(t, by, append([]string{"--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
}

// startExactly is start without arguments of its own.
func startExactly(t *testing.T, args ...string) *process {
	t.Helper()
	return launch(t, nil, args...)
}

func launch(t *testing.T, by []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, log: newJournal(), access: newJournal(), exited: make(chan struct{})}
	words := slices.Concat(by, []string{path, "run"}, args)
	p.cmd = exec.Command(words[0], words[1:]...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.outputs = []io.Closer{stdout, stderr}
	var readers sync.WaitGroup
	readers.Go(func() { p.access.read(stdout) })
	readers.Go(func() { p.log.read(stderr) })
	go func() {
		readers.Wait()   // before Wait, which closes the pipes
		_ = p.cmd.Wait() // its code is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // mostly it is gone
		<-p.exited
		if t.Failed() {
			t.Logf("log of the process:\n%s", p.log.text())
		}
	})
	return p
}

// listens waits until both ports are open.
func (p *process) listens() *process {
	p.t.Helper()
	for _, port := range []struct {
		name string
		url  *string
	}{{"admin", &p.admin}, {"http", &p.http}} {
		line := p.log.wait(p.t, "listening for "+port.name, func(l entry) bool { return l["msg"] == "listening" && l["for"] == port.name })
		*port.url = "http://" + line["address"].(string)
	}
	return p
}

// ready waits until the process says so.
func (p *process) ready() *process {
	p.t.Helper()
	p.listens()
	eventually(p.t, "ready", func() bool { return p.status(p.admin+"/readyz") == http.StatusOK })
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end of the process and returns its code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("the process did not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// do sends a request on a connection of its own; status is 0 without an answer.
func (p *process) do(url, host string, header ...string) (status int, body string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(data)
}

func (p *process) status(url string) int {
	status, _ := p.do(url, "")
	return status
}

// get asks the proxy.
func (p *process) get(host, path string) (status int, body string) { return p.do(p.http+path, host) }

// eventually asks again and again, until the answer is yes.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never became true: %s", what)
		}
	}
}

// entry is a line of a JSON log.
type entry map[string]any

// journal keeps a log, and wakes those who wait for a line.
type journal struct {
	mu     sync.Mutex
	lines  []entry
	raw    bytes.Buffer
	change chan struct{} // closed at each line
}

func newJournal() *journal { return &journal{change: make(chan struct{})} }

func (j *journal) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		line := entry{}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			line = entry{"unreadable": s.Text()}
		}
		j.mu.Lock()
		j.lines = append(j.lines, line)
		j.raw.Write(append(s.Bytes(), '\n'))
		close(j.change)
		j.change = make(chan struct{})
		j.mu.Unlock()
	}
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.raw.String()
}

// wait returns the first line, from the start of the log, that is wanted.
func (j *journal) wait(t *testing.T, what string, wanted func(entry) bool) entry {
	t.Helper()
	deadline := time.After(patience)
	for seen := 0; ; {
		j.mu.Lock()
		lines, change := j.lines[seen:], j.change
		j.mu.Unlock()
		for _, l := range lines {
			if wanted(l) {
				return l
			}
		}
		seen += len(lines)
		select {
		case <-change:
		case <-deadline:
			t.Fatalf("no line in the log: %s\n%s", what, j.text())
		}
	}
}

// count returns how many lines are wanted.
func (j *journal) count(wanted func(entry) bool) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if wanted(l) {
			n++
		}
	}
	return n
}

// manifestDir is a directory of manifests that is being edited.
type manifestDir string

func newManifestDir(t *testing.T, files map[string]string) manifestDir {
	d := manifestDir(t.TempDir())
	for _, name := range slices.Sorted(maps.Keys(files)) {
		d.write(t, name, files[name])
	}
	return d
}

// write replaces a file as editors do: a new one is renamed over it.
func (d manifestDir) write(t *testing.T, name, content string) {
	t.Helper()
	tmp := filepath.Join(string(d), "."+name+".tmp")
	err := os.WriteFile(tmp, []byte(content), 0o600)
	if err = errors.Join(err, os.Rename(tmp, filepath.Join(string(d), name))); err != nil {
		t.Fatal(err)
	}
}

// oneRoute is a class, and a route that sends a host to the server at addr.
func oneRoute(host, addr string) string {
	ip, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf(`apiVersion: ferrum.dev/v1alpha1
kind: ProxyClass
metadata: {name: ferrum}
---
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: site, namespace: web}
spec:
  hostnames: [%s]
  rules:
  - name: all
    backendRefs: [{name: app, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: web}
spec: {ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: web, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: %s, protocol: TCP}]
endpoints: [{addresses: [%s], conditions: {ready: true}}]
`, host, port, ip)
}
