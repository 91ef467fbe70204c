package main

import (
	"io"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// newLogger returns the process's logger, which writes to w what is at least
// as severe as the level.
func newLogger(w io.Writer, format string, level slog.Leveler) logr.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: plainLevel}
	var h slog.Handler
	if format == "text" {
		h = slog.NewTextHandler(w, options)
	} else {
		h = slog.NewJSONHandler(w, options)
	}
	return logr.FromSlogHandler(h)
}

// plainLevel writes the levels that logr's V(1) to V(3) become as DEBUG, not as
// "DEBUG+3".
func plainLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 || a.Key != slog.LevelKey {
		return a
	}
	if l, ok := a.Value.Any().(slog.Level); ok && l < slog.LevelInfo {
		return slog.Any(slog.LevelKey, slog.LevelDebug)
	}
	return a
}

// adoptLibraries sends what client-go and controller-runtime log to the same
// place. Both keep their logger in a global.
func adoptLibraries(log logr.Logger) {
	klog.SetLogger(log)
	ctrllog.SetLogger(log)
}
