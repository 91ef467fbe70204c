package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestProbeWaitsForAnAnswerBelow500(t *testing.T) {
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable) // no table yet
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer s.Close()
	var out, errs bytes.Buffer
	if code := execute([]string{"probe", s.URL}, &out, &errs); code != exitOK || !strings.Contains(out.String(), "404 Not Found") {
		t.Errorf("exit code %d, output %q %q", code, out.String(), errs.String())
	}
	if n.Load() != 2 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestProbeFailsWithTheLastReasonWhenTimeIsUp(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer s.Close()
	var out, errs bytes.Buffer
	code := execute([]string{"probe", "--timeout", "100ms", s.URL}, &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "answers 503") {
		t.Errorf("exit code %d, output %q", code, errs.String())
	}
}

func TestProbeTakesOnlyAnHTTPURL(t *testing.T) {
	for _, target := range []string{"x", "ftp://a/", "http://"} {
		var out, errs bytes.Buffer
		if code := execute([]string{"probe", target}, &out, &errs); code != exitUsage {
			t.Errorf("probe %s: exit code %d", target, code)
		}
	}
}

func TestProbeTakesTheAddressThatKubernetesGivesForAService(t *testing.T) {
	for target, want := range map[string]string{
		"tcp://10.0.0.1:80":       "http://10.0.0.1:80/",
		"tcp://[fd00::1]:80":      "http://[fd00::1]:80/",
		"tcp://fd00::1:80":        "http://[fd00::1]:80/",
		"http://[fd00::1]:80/x":   "http://[fd00::1]:80/x",
		"tcp://x":                 "tcp://x",
		"$(FERRUM_PORT_80_TCP)":   "$(FERRUM_PORT_80_TCP)", // no such Service: the Pod's environment has none
		"http://127.0.0.1/readyz": "http://127.0.0.1/readyz",
	} {
		if got := overHTTP(target); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}
