package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

var samples = filepath.Join("..", "..", "config", "samples")

// call runs a command line in this process.
func call(args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = execute(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongUsageExitsWithTwoAndSaysWhy(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	if err := os.WriteFile(config, []byte("admin: {tokenFile: "+empty+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, "serve"},
		{[]string{"run", "--htp=:80"}, "--htp"},
		{[]string{"run", "extra"}, "extra"},
		{[]string{"run", "--http=80"}, "not an address"},
		{[]string{"run", "--access-log=xml"}, "off, json, text"},
		{[]string{"run", "--config", missing}, missing},
		{[]string{"run", "--config", config, "--manifests", samples}, "is empty"},
		{[]string{"run", "--manifests", missing}, missing},
		{[]string{"run", "--kubeconfig", missing}, missing},
		{[]string{"run", "--manifests", "a", "--kubeconfig", "b"}, "not both"},
		{[]string{"check"}, "arg"},
		{[]string{"explain", "GET", "http://a/"}, "manifests"},
		{[]string{"explain", "--manifests", samples, "--admin", "http://a", "GET", "http://a/"}, "admin"},
		{[]string{"explain", "--manifests", samples, "GET"}, "arg"},
		{[]string{"explain", "--manifests", missing, "GET", "http://a/"}, missing},
		{[]string{"explain", "--manifests", samples, "GET", "shop.example.com"}, "not a URL"},
		{[]string{"explain", "--manifests", samples, "GET", "http:///x"}, "no host"},
		{[]string{"explain", "--manifests", samples, "GET", "/x"}, "no host"},
		{[]string{"explain", "--manifests", samples, "GET", "http://a/", "-H", "nonsense"}, "name: value"},
		{[]string{"explain", "--manifests", samples, "GET", "http://a/", "-o", "xml"}, "text, json"},
		{[]string{"explain", "--admin", "127.0.0.1:9090", "GET", "http://a/"}, "is not a URL"},
		{[]string{"explain", "--admin", "http://127.0.0.1:1", "GET", "http://a/"}, "127.0.0.1:1"},
		{[]string{"explain", "--admin", "http://127.0.0.1:1", "--token-file", missing, "GET", "http://a/"}, missing},
	} {
		code, stdout, stderr := call(tc.args...)
		if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "ferrum: ") || !strings.Contains(stderr, tc.want) {
			t.Errorf("ferrum %s: exit code %d, wants %q\nstdout: %s\nstderr: %s", strings.Join(tc.args, " "), code, tc.want, stdout, stderr)
		}
	}
}

func TestRunOutsideOfAClusterSaysWhatToGive(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if code, _, stderr := call("run"); code != exitUsage || !strings.Contains(stderr, "--manifests") || !strings.Contains(stderr, "--kubeconfig") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestHelpNamesTheFourCommandsAndNoOthers(t *testing.T) {
	code, stdout, _ := call("--help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	_, commands, _ := strings.Cut(stdout, "Available Commands:\n")
	commands, _, _ = strings.Cut(commands, "\n\n")
	var names []string
	for line := range strings.Lines(commands) {
		names = append(names, strings.Fields(line)[0])
	}
	if got := strings.Join(names, " "); got != "check explain help probe run version" {
		t.Errorf("got %s", got)
	}
}

func TestVersionNamesVersionGoAndPlatform(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "version").Output()
	if want := "ferrum v0.0.0-test " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestVersionComesFromTheBuildWhenNoneWasLinked(t *testing.T) {
	module := func(v string) *debug.BuildInfo { return &debug.BuildInfo{Main: debug.Module{Version: v}} }
	for _, tc := range []struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		{"v1.2.3", module("v9"), "v1.2.3"},
		{"", module("v1.2.4-0.2026"), "v1.2.4-0.2026"},
		{"", module("(devel)"), "devel"},
		{"", module(""), "devel"},
		{"", nil, "devel"},
	} {
		if got := buildVersion(tc.linked, tc.info); got != tc.want {
			t.Errorf("%q, %v: got %s", tc.linked, tc.info, got)
		}
	}
}

func TestCheckIsSilentAboutTheSamples(t *testing.T) {
	if code, stdout, stderr := call("check", samples); code != 0 || stdout+stderr != "" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

func TestCheckPrintsALineForEachFinding(t *testing.T) {
	good := oneRoute("a.example.com", "127.0.0.1:80")
	for _, tc := range []struct {
		name, manifest string
		code           int
		want           []string // a part of each line
	}{
		{name: "nothing to find", manifest: good},
		{name: "no YAML", manifest: "a: [\n", code: exitFailed, want: []string{"f.yaml:"}},
		{name: "a rule of the schema", manifest: strings.Replace(good, "name: all", "name: All", 1), code: exitFailed, want: []string{"rules[0].name"}},
		{name: "a rule of CEL", manifest: strings.Replace(good, "name: app, port: 80}", "name: app, port: 80, weight: 0}", 1), code: exitFailed, want: []string{"weight above 0"}},
		{name: "a missing Service", manifest: strings.Replace(good, "name: app, port: 80}", "name: nothing, port: 80}", 1), code: exitFailed, want: []string{"web/nothing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := newManifestDir(t, map[string]string{"f.yaml": tc.manifest})
			code, stdout, stderr := call("check", filepath.Join(string(dir), "f.yaml"))
			lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
			if stdout == "" {
				lines = nil
			}
			if code != tc.code || stderr != "" || len(lines) != len(tc.want) {
				t.Fatalf("exit code %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
			}
			for i, want := range tc.want {
				if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "f.yaml:") {
					t.Errorf("line %q does not name the file and %q", lines[i], want)
				}
			}
		})
	}
}

func TestExplainAnswersForTheSamples(t *testing.T) {
	code, stdout, stderr := call("explain", "--manifests", samples, "GET", "http://shop.example.com/web/../%61pi", "-H", "X-Canary: 1")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"matched as  shop.example.com/api\n",
		`taken by    shop/shop rule "api-beta"`,
		`decided by  headers, before shop/shop rule "api"`,
		"outcome     ok: a backend answers\n",
		"shop/api-canary:80",
		"127.0.0.1:18084",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
}

func TestExplainExitsWithOneWhenNoRuleTakesTheRequest(t *testing.T) {
	code, stdout, _ := call("explain", "--manifests", samples, "-o", "json", "GET", "/x", "-H", "Host: other.example.com")
	var e proxy.Explanation
	if err := json.Unmarshal([]byte(stdout), &e); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if code != exitFailed || e.Outcome != "no_route" || e.Status != 404 || e.Host != "other.example.com" || e.Winner != nil {
		t.Errorf("exit code %d, %+v", code, e)
	}
}

func TestExplainSaysWhatOfTheManifestsIsNotServed(t *testing.T) {
	_, routes, _ := strings.Cut(oneRoute("a.example.com", "127.0.0.1:80"), "---\n") // no class
	dir := newManifestDir(t, map[string]string{"f.yaml": routes})
	code, _, stderr := call("explain", "--manifests", string(dir), "GET", "http://a.example.com/")
	if code != exitFailed || !strings.Contains(stderr, "note: ProxyRoute web/site Accepted=False (NoClass)") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestExplainRefusesManifestsThatWouldNotBeServed(t *testing.T) {
	dir := newManifestDir(t, map[string]string{"f.yaml": "kind: ["})
	code, stdout, stderr := call("explain", "--manifests", string(dir), "GET", "http://a.example.com/")
	if code != exitUsage || stdout != "" || !strings.Contains(stderr, "f.yaml:") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
