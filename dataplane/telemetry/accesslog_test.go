package telemetry

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// logged returns the lines that logging the records writes.
func logged(t *testing.T, cfg AccessLogConfig, records ...*proxy.Record) []string {
	t.Helper()
	out := &sink{}
	cfg.Out = out
	tel := New(Config{AccessLog: cfg})
	for _, r := range records {
		tel.Log(r)
	}
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(out.all(), "\n")
	return lines[:len(lines)-1]
}

func TestEveryRequestIsLoggedInTheFormatAskedFor(t *testing.T) {
	if got := logged(t, AccessLogConfig{Format: AccessLogJSON}, sample(), malformed()); len(got) != 2 || !json.Valid([]byte(got[0])) {
		t.Errorf("json: %q", got)
	}
	if got := logged(t, AccessLogConfig{Format: AccessLogText, Sample: 1}, sample(), malformed()); len(got) != 2 || !strings.HasPrefix(got[0], "time=") {
		t.Errorf("text: %q", got)
	}
	for _, off := range []string{"", AccessLogOff} {
		if got := logged(t, AccessLogConfig{Format: off}, sample()); len(got) != 0 {
			t.Errorf("%q: %q", off, got)
		}
	}
}

func TestSamplingLeavesOutRequestsThatWentWellAndNoOthers(t *testing.T) {
	serverError := sample()
	serverError.Status = 500
	for _, always := range []*proxy.Record{malformed(), serverError} {
		if got := logged(t, AccessLogConfig{Format: AccessLogText, Sample: 1 << 40}, always); len(got) != 1 {
			t.Errorf("status %d, reason %v: not logged", always.Status, always.Reason)
		}
	}
	const requests, n = 20_000, 10
	var records []*proxy.Record
	for range requests {
		records = append(records, sample())
	}
	// The number is binomial with a standard deviation of 42: ten of them either
	// way leave no chance of a false alarm.
	got := len(logged(t, AccessLogConfig{Format: AccessLogText, Sample: n}, records...))
	if got < requests/n-420 || got > requests/n+420 {
		t.Errorf("%d of %d lines with 1 of %d", got, requests, n)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	for want, cfg := range map[string]AccessLogConfig{
		`"xml" is unknown`: {Format: "xml", Out: io.Discard},
		"negative":         {Format: AccessLogJSON, Sample: -1, Out: io.Discard},
		"no output":        {Format: AccessLogText},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: New does not refuse it", cfg)
				}
			}()
			New(Config{AccessLog: cfg})
		}()
	}
	if err := (AccessLogConfig{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}

func TestWhatBecameOfTheLinesIsCounted(t *testing.T) {
	tel := New(Config{AccessLog: AccessLogConfig{Format: AccessLogJSON, Out: &sink{}}})
	tel.Log(sample())
	tel.Log(sample())
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tel.Log(sample())
	wantSamples(t, tel, []string{"ferrum_access_log"},
		`ferrum_access_log_dropped_total{reason="closed"} 1`,
		`ferrum_access_log_dropped_total{reason="error"} 0`,
		`ferrum_access_log_dropped_total{reason="full"} 0`,
		"ferrum_access_log_lines_total 2")
}

func TestALineAllocatesNothing(t *testing.T) {
	for _, format := range []string{AccessLogJSON, AccessLogText} {
		tel := New(Config{AccessLog: AccessLogConfig{Format: format, Out: io.Discard}})
		r := sample()
		r.Path, r.UserAgent = []byte("/é😀\xff\""), []byte("\x00\n")
		if n := testing.AllocsPerRun(1000, func() { tel.Log(r) }); n >= 1 {
			t.Errorf("%s: %v allocations", format, n)
		}
		if err := tel.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
