package main

import (
	"strings"
	"syscall"
	"testing"
)

// A process that has no routes yet must not get connections beside one that has.
func TestAProcessWithoutRoutesLeavesThePortToTheOther(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "old"))})
	broken := newManifestDir(t, map[string]string{"site.yaml": "kind: ["})
	old := start(t, "--manifests", string(dir)).ready()
	next := start(t, "--manifests", string(broken), "--http", strings.TrimPrefix(old.http, "http://"))
	next.log.wait(t, "the problem", func(l entry) bool { return l["msg"] == "manifest refused" })
	for range 50 {
		if status, body := old.get("a.example.com", "/"); status != 200 || body != "old" {
			t.Fatalf("got %d %q", status, body)
		}
	}
	broken.write(t, "site.yaml", oneRoute("a.example.com", backend(t, "new")))
	next.ready()
	eventually(t, "the new one answers, too", func() bool { _, body := old.get("a.example.com", "/"); return body == "new" })
}

// A process that was told to stop while it waited for its routes once joined when
// they came, and closed the connections that the kernel gave it then.
func TestAProcessThatIsStoppedBeforeItHasRoutesNeverJoins(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "old"))})
	broken := newManifestDir(t, map[string]string{"site.yaml": "kind: ["})
	old := start(t, "--manifests", string(dir)).ready()
	next := start(t, "--manifests", string(broken), "--drain-delay", "1h", "--http", strings.TrimPrefix(old.http, "http://"))
	next.log.wait(t, "the problem", func(l entry) bool { return l["msg"] == "manifest refused" })
	next.signal(syscall.SIGTERM)
	next.log.wait(t, "the drain", func(l entry) bool { return l["msg"] == "draining" })
	broken.write(t, "site.yaml", oneRoute("a.example.com", backend(t, "new")))
	next.log.wait(t, "its routes", func(l entry) bool { return l["msg"] == "manifests applied" })
	for range 50 {
		if status, body := old.get("a.example.com", "/"); status != 200 || body != "old" {
			t.Fatalf("got %d %q", status, body)
		}
	}
}
