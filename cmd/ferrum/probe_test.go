package main

import (
	"bytes"
	"net"
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

func TestProbeTakesAnAddressWithoutBrackets(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
		t.Cleanup(s.Close)
		host, port, _ := net.SplitHostPort(l.Addr().String())
		var out, errs bytes.Buffer
		if code := execute([]string{"probe", host, port}, &out, &errs); code != exitOK || !strings.Contains(out.String(), "404 Not Found") {
			t.Errorf("%s: exit code %d, output %q %q", addr, code, out.String(), errs.String())
		}
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
	for _, args := range [][]string{{"x"}, {"ftp://a/"}, {"http://"}, {"a", "port"}, {"a", "1", "2"}} {
		var out, errs bytes.Buffer
		if code := execute(append([]string{"probe"}, args...), &out, &errs); code != exitUsage {
			t.Errorf("probe %s: exit code %d", args, code)
		}
	}
}
