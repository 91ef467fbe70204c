package main

import (
	"log/slog"
	"strings"
	"syscall"
	"testing"
)

func TestLogHasTheFormatAndTheLevelsThatWereAskedFor(t *testing.T) {
	var text, quiet, loud strings.Builder
	newLogger(&text, "text", slog.LevelInfo).Info("hello", "who", "you")
	if got := text.String(); !strings.Contains(got, "level=INFO msg=hello who=you") {
		t.Errorf("text: %s", got)
	}
	log := newLogger(&quiet, "json", slog.LevelWarn)
	log.Info("not this")
	log.V(1).Info("nor this")
	log.Error(nil, "this")
	if got := quiet.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"level":"ERROR","msg":"this"`) {
		t.Errorf("warn: %s", got)
	}
	log = newLogger(&loud, "json", slog.LevelDebug)
	log.V(1).Info("details")
	log.V(5).Info("noise")
	if got := loud.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"level":"DEBUG","msg":"details"`) {
		t.Errorf("debug: %s", got)
	}
}

// A log collector that died took the process with it, and every request that was
// under way: writing to a pipe that nobody reads any more is a signal.
func TestALogThatNobodyReadsAnyMoreTakesNothingWithIt(t *testing.T) {
	t.Parallel()
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "one"))})
	p := start(t, "--manifests", string(dir), "--access-log", "json", "--drain-delay", "0s").ready()
	for _, out := range p.outputs {
		_ = out.Close() // it was only read
	}
	dir.write(t, "site.yaml", "kind: [") // there is something to log
	eventually(t, "lines are lost", func() bool {
		if status, body := p.get("a.example.com", "/"); status != 200 || body != "one" {
			t.Fatalf("got %d %q", status, body)
		}
		return p.metric(`ferrum_access_log_dropped_total{reason="error"}`) > 0
	})
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
