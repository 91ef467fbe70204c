package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; the builds are in it.
const patience = 5 * time.Minute

var binaryDir string

// TestMain lets the test binary stand for the command, too, so that it need not
// be built.
func TestMain(m *testing.M) {
	if os.Getenv("FERRUM_RUN_MAIN") != "" {
		main()
		return
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

// ferrum builds the proxy once for all tests but the one that builds it itself.
var ferrum = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "ferrum")
	return path, build(context.Background(), path, os.Stderr)
})

// output collects what is printed, and can be waited on.
type output struct {
	mu     sync.Mutex
	text   bytes.Buffer
	change chan struct{}
}

func newOutput() *output { return &output{change: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.change)
	o.change = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait waits until something was printed, or until ended.
func (o *output) wait(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		text, change := o.text.String(), o.change
		o.mu.Unlock()
		if strings.Contains(text, what) {
			return
		}
		select {
		case <-change:
		case err := <-ended:
			t.Fatalf("ended before it printed %q: %v\n%s", what, err, text)
		case <-deadline:
			t.Fatalf("did not print %q:\n%s", what, text)
		}
	}
}

var lastPort = 26000 + rand.IntN(5000) // that freePorts has tried

// freePorts returns loopback addresses on which nothing listens, others each time.
// It may take a build until somebody does: who asks for any port meanwhile, as
// tests of other packages do, gets one that is higher.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	for tries := 0; len(all) < n; tries++ {
		lastPort++
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", lastPort))
		if err == nil {
			defer l.Close()
			all = append(all, l.Addr().String())
		} else if tries > 100 {
			t.Fatal(err)
		}
	}
	return all
}

// playground is a copy of the samples on free ports, and a binary.
func playground(t *testing.T) (o options, backends []string) {
	t.Helper()
	dir := t.TempDir()
	fixed := regexp.MustCompile(`\b1808[0-9]\b`)
	ports := make(map[string]string)
	files, err := filepath.Glob(filepath.Join("config", "samples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no samples", err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		data = fixed.ReplaceAllFunc(data, func(p []byte) []byte {
			if ports[string(p)] == "" {
				addr := freePorts(t, 1)[0]
				backends = append(backends, addr)
				_, ports[string(p)], _ = strings.Cut(addr, ":")
			}
			return []byte(ports[string(p)])
		})
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := ferrum()
	if err != nil {
		t.Fatal(err)
	}
	free := freePorts(t, 2)
	return options{samples: dir, http: free[0], admin: free[1], binary: binary}, backends
}

func listening(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// nothingListens waits until all addresses refuse connections.
func nothingListens(t *testing.T, addrs ...string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for _, a := range addrs {
		for listening(a) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s is still open", a)
			}
		}
	}
}

func TestPlaygroundAnswersAsItsTourSays(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	o, backends := playground(t)
	o.binary = "" // as `make run` does
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := newOutput(), make(chan error, 1)
	go func() { ended <- run(ctx, o, out, out) }()
	out.wait(t, "Ctrl-C ends all of it", ended)
	for _, s := range steps {
		status, body := s.send(t, "http://"+o.http)
		if status != s.status || !strings.HasPrefix(body, s.body) {
			t.Errorf("%s\n%s: got %d %q, want %d %q", s.shows, s.curl("http://"+o.http), status, body, s.status, s.body)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	nothingListens(t, append(backends, o.http, o.admin)...)
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "ferrum-run-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// send does what the step's curl line does.
func (s step) send(t *testing.T, proxy string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, proxy, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = s.path // as it is, dot segments too
	req.Host = s.host
	for _, h := range s.headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

// startCommand runs this command as a process of its own.
func startCommand(t *testing.T, o options) (cmd *exec.Cmd, out *output, ended chan error) {
	t.Helper()
	out, ended = newOutput(), make(chan error, 1)
	cmd = exec.Command(os.Args[0], "-samples", o.samples, "-http", o.http, "-admin", o.admin, "-binary", o.binary)
	cmd.Env = append(os.Environ(), "FERRUM_RUN_MAIN=1")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // mostly it is gone
	out.wait(t, "Ctrl-C ends all of it", ended)
	return cmd, out, ended
}

func TestSignalsEndAllOfIt(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			o, backends := playground(t)
			cmd, _, ended := startCommand(t, o)
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
			nothingListens(t, append(backends, o.http, o.admin)...)
		})
	}
}

func TestTakenPortIsNamedBeforeAnythingStarts(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for _, which := range []string{"the proxy", "the sample backend of Service web"} {
		o, backends := playground(t)
		addr := o.http
		if which != "the proxy" {
			addr = backends[0]
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		err = run(t.Context(), o, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), which+" cannot listen on "+addr) {
			t.Errorf("got %v", err)
		}
		l.Close()
		nothingListens(t, append(backends, o.http, o.admin)...)
	}
}

func TestProxyThatDiesEndsThePlayground(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	o, backends := playground(t)
	out, ended := newOutput(), make(chan error, 1)
	go func() { ended <- run(t.Context(), o, out, out) }()
	out.wait(t, "Ctrl-C ends all of it", ended)
	pid := regexp.MustCompile(`the proxy runs as process (\d+)`).FindStringSubmatch(out.String())
	if pid == nil {
		t.Fatal("the process is not named")
	}
	var n int
	if _, err := fmt.Sscan(pid[1], &n); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
	nothingListens(t, append(backends, o.http, o.admin)...)
}

func TestPlaygroundStaysOnLoopback(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	o, _ := playground(t)
	o.http = ":8080"
	if err := run(t.Context(), o, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
}

func TestPlaygroundSaysWhereItBelongs(t *testing.T) {
	if err := run(t.Context(), options{}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "top of the repository") {
		t.Errorf("got %v", err)
	}
}

func TestOrphanedPlaygroundEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	go endWithParent(ctx, -1, cancel) // no process has this parent
	<-ctx.Done()
	if cause := context.Cause(ctx); !strings.Contains(fmt.Sprint(cause), "parent") {
		t.Errorf("got %v", cause)
	}
}
