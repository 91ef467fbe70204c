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

	write("manifests: " + string(dir) + "\ndrain: {delay: 0s, timeout: 1h}\nhttp: {maxConnections: 5}\nlog: {level: debug}\n")
	p.signal(syscall.SIGHUP)
	line := p.log.wait(t, "the change", func(l entry) bool { return l["msg"] == "configuration file read again" })
	if changed, restart := fmt.Sprint(line["changed"]), fmt.Sprint(line["needRestart"]); changed != "[drain.delay log.level]" || restart != "[http.maxConnections]" {
		t.Errorf("changed %s, need a restart: %s", changed, restart)
	}
	if status, body := p.get("a.example.com", "/"); status != 200 || body != "one" {
		t.Errorf("got %d %q", status, body)
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
