package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestHangupReadsTheConfigurationFileAgain(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	config := filepath.Join(t.TempDir(), "ferrum.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("manifests: " + string(dir) + "\ndrain: {delay: 1h}\n")
	p := start(t, "--config", config, "--drain-timeout", "7s").ready()

	write("drain: {dleay: 0s}\n")
	p.signal(syscall.SIGHUP)
	refused := p.log.wait(t, "the refusal", func(l entry) bool {
		return strings.HasPrefix(fmt.Sprint(l["msg"]), "configuration file refused")
	})
	if !strings.Contains(fmt.Sprint(refused["err"]), "dleay") {
		t.Errorf("got %v", refused)
	}
	wantMetrics(t, p, `ferrum_config_file_reads_total{result="error"} 1`, "ferrum_config_file_refused 1")

	write("manifests: " + string(dir) + "\ndrain: {delay: 0s, timeout: 1h}\nhttp: {reusePort: false, maxRequestLineBytes: 100}\n" +
		"forwarded: {trustedCIDRs: [127.0.0.0/8]}\nlog: {level: debug}\n")
	p.signal(syscall.SIGHUP)
	line := p.log.wait(t, "the change", func(l entry) bool { return l["msg"] == "configuration file read again" })
	if changed, restart := fmt.Sprint(line["changed"]), fmt.Sprint(line["needRestart"]); changed != "[http.maxRequestLineBytes forwarded.trustedCIDRs drain.delay log.level]" || restart != "[http.reusePort]" {
		t.Errorf("changed %s, need a restart: %s", changed, restart)
	}
	wantMetrics(t, p, `ferrum_config_file_reads_total{result="success"} 1`, "ferrum_config_file_refused 0")
	if status, body := p.get("a.example.com", "/"); status != 200 || body != "one" {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := p.get("a.example.com", "/"+strings.Repeat("x", 100)); status != 414 {
		t.Errorf("a line of more than 100 bytes gets %d", status)
	}
	p.signal(syscall.SIGHUP)
	again := p.log.wait(t, "nothing new", func(l entry) bool { return fmt.Sprint(l["changed"]) == "[]" })
	if restart := fmt.Sprint(again["needRestart"]); restart != "[http.reusePort]" {
		t.Errorf("what needs a restart still: %s", restart)
	}
	p.signal(syscall.SIGTERM)
	draining := p.log.wait(t, "the drain", func(l entry) bool { return l["msg"] == "draining" })
	if draining["delay"] != "0s" || draining["timeout"] != "7s" {
		t.Errorf("drained with %v; a flag wins over the file", draining)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func wantMetrics(t *testing.T, p *process, lines ...string) {
	t.Helper()
	_, metrics := p.do(p.admin+"/metrics", "")
	for _, line := range lines {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics do not say %s", line)
		}
	}
}

func TestHangupWithoutAConfigurationFileChangesNothing(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir)).ready()
	p.signal(syscall.SIGHUP)
	p.log.wait(t, "that there is none", func(l entry) bool { return strings.HasPrefix(fmt.Sprint(l["msg"]), "there is no configuration file") })
	if status, body := p.get("a.example.com", "/"); status != 200 || body != "one" {
		t.Errorf("got %d %q", status, body)
	}
}

func TestOperationsPageNamesWhatAHangupChanges(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "operations.md"), "SIGHUP")
	text, _, _ = strings.Cut(text, "\n\n")
	for _, s := range DefaultConfig().settings() {
		if said := strings.Contains(text, "`"+s.key+"`"); said != slices.Contains(liveSettings, s.key) {
			t.Errorf("%s: the page says that it can be changed: %v", s.key, said)
		}
	}
}
