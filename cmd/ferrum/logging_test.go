package main

import (
	"log/slog"
	"strings"
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
