package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// backend is a server that answers with its name.
func backend(t *testing.T, name string) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// heldBackend answers when it is released, and says when a request is there.
func heldBackend(t *testing.T) (addr string, arrived <-chan struct{}, release func()) {
	there, hold := make(chan struct{}, 1), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there <- struct{}{}
		select {
		case <-hold:
			fmt.Fprint(w, "done")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), there, func() { close(hold) }
}

func TestRunServesManifestsAndFollowsEdits(t *testing.T) {
	t.Parallel()
	one, two := backend(t, "one"), backend(t, "two")
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", one)})
	p := start(t, "--manifests", string(dir)).ready()

	if status, body := p.get("a.example.com", "/x?y=1"); status != 200 || body != "one" {
		t.Errorf("got %d %q", status, body)
	}
	line := p.access.wait(t, "the request", func(l entry) bool { return l["path"] == "/x" })
	for key, want := range map[string]any{
		"route": "web/site", "rule": "all", "host": "a.example.com", "method": "GET", "query": "y=1",
		"status": 200.0, "reason": "ok", "endpoint": one,
	} {
		if line[key] != want {
			t.Errorf("access log: %s is %v, want %v", key, line[key], want)
		}
	}
	if status, body := p.get("b.example.com", "/"); status != 404 || body != "404 no_route\n" {
		t.Errorf("a host that no route has: got %d %q", status, body)
	}

	dir.write(t, "site.yaml", oneRoute("a.example.com", two))
	eventually(t, "the other backend answers", func() bool { _, body := p.get("a.example.com", "/"); return body == "two" })
	_, other, _ := strings.Cut(oneRoute("b.example.com", one), "---\n") // the class is there already
	dir.write(t, "other.yaml", strings.ReplaceAll(other, "namespace: web", "namespace: other"))
	eventually(t, "a new file is served", func() bool { _, body := p.get("b.example.com", "/"); return body == "one" })
	if err := os.Remove(filepath.Join(string(dir), "other.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed file is not", func() bool { status, _ := p.get("b.example.com", "/"); return status == 404 })
}

func TestBrokenFileIsReportedWithItsLineAndStaysAsItWas(t *testing.T) {
	t.Parallel()
	one, two := backend(t, "one"), backend(t, "two")
	_, other, _ := strings.Cut(oneRoute("b.example.com", one), "---\n")
	other = strings.ReplaceAll(other, "namespace: web", "namespace: other")
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", one), "other.yaml": other})
	p := start(t, "--manifests", string(dir)).ready()

	good := oneRoute("a.example.com", two)
	dir.write(t, "site.yaml", strings.Replace(good, "  hostnames:", "  hostnmaes:", 1))
	line := p.log.wait(t, "the problem", func(l entry) bool { return l["msg"] == "manifest refused" })
	if line["file"] != filepath.Join(string(dir), "site.yaml") || line["line"] != 9.0 || !strings.Contains(fmt.Sprint(line["problem"]), "hostnmaes") {
		t.Errorf("got %v", line)
	}
	if _, body := p.get("a.example.com", "/"); body != "one" {
		t.Errorf("the last good state is not served: %q", body)
	}
	if status := p.status(p.admin + "/readyz"); status != 200 {
		t.Errorf("readyz: %d", status)
	}
	dir.write(t, "other.yaml", strings.Replace(other, "b.example.com", "c.example.com", 1))
	eventually(t, "another file still counts", func() bool { _, body := p.get("c.example.com", "/"); return body == "one" })
	if _, body := p.get("a.example.com", "/"); body != "one" {
		t.Errorf("the last good state is not served any more: %q", body)
	}
	dir.write(t, "site.yaml", good)
	eventually(t, "the repaired file is served", func() bool { _, body := p.get("a.example.com", "/"); return body == "two" })
}

func TestManifestsWithErrorsAtTheStartAreNotServedInHalves(t *testing.T) {
	t.Parallel()
	one := backend(t, "one")
	dir := newManifestDir(t, map[string]string{"bad.yaml": "kind: [", "site.yaml": oneRoute("a.example.com", one)})
	p := start(t, "--manifests", string(dir)).listens()
	p.log.wait(t, "the problem", func(l entry) bool { return l["msg"] == "manifest refused" })
	if status := p.status(p.admin + "/readyz"); status != 503 {
		t.Errorf("readyz: %d", status)
	}
	if status := p.status(p.admin + "/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	if status, body := p.get("a.example.com", "/"); status != 503 || body != "503 no_table\n" {
		t.Errorf("got %d %q", status, body)
	}
	if err := os.Remove(filepath.Join(string(dir), "bad.yaml")); err != nil {
		t.Fatal(err)
	}
	p.ready()
	if _, body := p.get("a.example.com", "/"); body != "one" {
		t.Errorf("got %q", body)
	}
}

func TestWhatWouldBeAConditionIsInTheLogOnce(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": strings.Replace(oneRoute("a.example.com", "127.0.0.1:1"), "name: app, port: 80", "name: nothing, port: 80", 1)})
	p := start(t, "--manifests", string(dir)).ready()
	unresolved := func(l entry) bool {
		return l["msg"] == "not as asked for" && l["name"] == "web/site" && l["condition"] == "ResolvedRefs=False" && l["reason"] == "BackendNotFound"
	}
	p.log.wait(t, "the finding", unresolved)
	dir.write(t, "more.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n")
	applied := func(l entry) bool { return l["msg"] == "manifests applied" }
	eventually(t, "applied again", func() bool { return p.log.count(applied) == 2 })
	p.signal(syscall.SIGTERM)
	p.exit()
	if n := p.log.count(unresolved); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestSigtermFinishesRequestsAndExitsWithZero(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			addr, arrived, release := heldBackend(t)
			dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", addr)})
			p := start(t, "--manifests", string(dir), "--drain-delay", "300ms", "--drain-timeout", "15s").ready()
			answer := make(chan string)
			go func() {
				status, body := p.get("a.example.com", "/")
				answer <- fmt.Sprint(status, " ", body)
			}()
			<-arrived
			p.signal(s)
			eventually(t, "not ready", func() bool { return p.status(p.admin+"/readyz") == 503 })
			if status := p.status(p.admin + "/livez"); status != 200 {
				t.Errorf("livez while draining: %d", status)
			}
			eventually(t, "nothing new is accepted", func() bool { status, _ := p.get("no.example.com", "/"); return status == 0 })
			release()
			if got := <-answer; got != "200 done" {
				t.Errorf("the request in flight got %q", got)
			}
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			p.access.wait(t, "the last request", func(l entry) bool { return l["status"] == 200.0 })
		})
	}
}

func TestDrainTimeoutCutsAndSaysHowMuch(t *testing.T) {
	t.Parallel()
	addr, arrived, _ := heldBackend(t)
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", addr)})
	p := start(t, "--manifests", string(dir), "--drain-delay", "0s", "--drain-timeout", "100ms").ready()
	answer := make(chan int)
	go func() {
		status, _ := p.get("a.example.com", "/")
		answer <- status
	}()
	<-arrived
	p.signal(syscall.SIGTERM)
	if status := <-answer; status != 0 {
		t.Errorf("the cut request got %d", status)
	}
	if code := p.exit(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(p.log.text()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"cutRequests":1,"cutUpgraded":0`) {
		t.Errorf("the last line is %s", last)
	}
	p.access.wait(t, "the request that was cut", func(l entry) bool { return l["reason"] == "shutdown" })
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	addr, arrived, _ := heldBackend(t)
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", addr)})
	p := start(t, "--manifests", string(dir), "--drain-delay", "1h").ready()
	go p.get("a.example.com", "/")
	<-arrived
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "the first signal", func(l entry) bool { return strings.HasPrefix(fmt.Sprint(l["msg"]), "stopping; a second signal") })
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestRunFailsWhenItCannotListen(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := newManifestDir(t, nil)
	p := start(t, "--manifests", string(dir), "--http", taken.Addr().String())
	if code := p.exit(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if text := p.log.text(); !strings.Contains(text, "ferrum: ") || !strings.Contains(text, taken.Addr().String()) {
		t.Errorf("the log does not say what could not be listened on:\n%s", text)
	}
}

func TestAdminTokenGuardsEverythingButTheProbes(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	token := filepath.Join(t.TempDir(), "token")
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	for file, content := range map[string]string{token: "s3cret\n", config: "admin: {tokenFile: " + token + "}\nmanifests: " + string(dir) + "\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "--config", config).ready()
	for _, path := range []string{"/metrics", "/debug/routes", "/debug/endpoints", "/debug/explain"} {
		if status := p.status(p.admin + path); status != 401 {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
	if status, _ := p.do(p.admin+"/metrics", "", "Authorization", "Bearer s3cret"); status != 200 {
		t.Errorf("metrics with the token: %d", status)
	}
	explain := []string{"explain", "--admin", p.admin, "GET", "http://a.example.com/x"}
	var out, errs strings.Builder
	if code := execute(append(explain, "--token-file", token), &out, &errs); code != 0 || !strings.Contains(out.String(), `web/site rule "all"`) {
		t.Errorf("explain with the token: %d\n%s%s", code, out.String(), errs.String())
	}
	errs.Reset()
	if code := execute(explain, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "--token-file") {
		t.Errorf("explain without a token: %d %s", code, errs.String())
	}
}

func TestATokenOfTheAdminPortIsChangedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	secret := mountSecret(t, "one\n")
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, []byte("admin: {tokenFile: "+secret.file()+"}\nmanifests: "+string(dir)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--config", config).ready()
	for _, step := range []struct {
		put   string
		wants map[string]int
	}{
		{"", map[string]int{"one": 200, "two": 401}},
		{"two\n", map[string]int{"one": 200, "two": 200, "three": 401}},
		{"three\n", map[string]int{"one": 401, "two": 200, "three": 200}},
	} {
		if step.put != "" {
			secret.put(t, step.put, time.Now())
		}
		for token, want := range step.wants {
			if status, _ := p.do(p.admin+"/metrics", "", "Authorization", "Bearer "+token); status != want {
				t.Errorf("after %q, with %q: %d, want %d", step.put, token, status, want)
			}
		}
	}
}

func TestRunningProxyAndFilesExplainTheSame(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir)).ready()
	for host, code := range map[string]int{"a.example.com": exitOK, "b.example.com": exitFailed} {
		var answers []string
		for _, from := range [][]string{{"--admin", p.admin}, {"--manifests", string(dir)}} {
			var out strings.Builder
			if got := execute(append([]string{"explain", "GET", "http://" + host + "/x?q=1", "-H", "x-a: b"}, from...), &out, t.Output()); got != code {
				t.Errorf("%s %v: exit code %d", host, from, got)
			}
			answers = append(answers, out.String())
		}
		if answers[0] != answers[1] {
			t.Errorf("the running proxy says\n%s\nthe files say\n%s", answers[0], answers[1])
		}
	}
}

func TestApiServerThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	err := os.WriteFile(kubeconfig, []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "--kubeconfig", kubeconfig, "--drain-delay", "0s").listens()
	if status := p.status(p.admin + "/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	if status := p.status(p.admin + "/readyz"); status != 503 {
		t.Errorf("readyz: %d", status)
	}
	if status, body := p.get("a.example.com", "/"); status != 503 || body != "503 no_table\n" {
		t.Errorf("got %d %q", status, body)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
