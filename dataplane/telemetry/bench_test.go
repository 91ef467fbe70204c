package telemetry

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// BenchmarkBeginEnd is what the metrics cost a request: all cores on one rule.
func BenchmarkBeginEnd(b *testing.B) {
	s := New(Config{}).Series(proxy.RuleID{Namespace: "shop", Route: "web", Rule: "api"})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := sample()
		for pb.Next() {
			s.Begin()
			s.End(r)
		}
	})
}

// BenchmarkClientObserve is what the client library's histogram costs, for the
// decision that doc.go records.
func BenchmarkClientObserve(b *testing.B) {
	classic := prometheus.HistogramOpts{Name: "x"}
	for _, bound := range bucketBounds {
		classic.Buckets = append(classic.Buckets, bound.Seconds())
	}
	for name, opts := range map[string]prometheus.HistogramOpts{
		"classic": classic,
		"native":  {Name: "x", NativeHistogramBucketFactor: 1.1},
	} {
		b.Run(name, func(b *testing.B) {
			h := prometheus.NewHistogram(opts)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					h.Observe(0.0123)
				}
			})
		})
	}
}

// BenchmarkLog is what a line costs its request, with the writer running.
func BenchmarkLog(b *testing.B) {
	for _, format := range []string{AccessLogJSON, AccessLogText} {
		b.Run(format, func(b *testing.B) {
			t := New(Config{AccessLog: AccessLogConfig{Format: format, Out: io.Discard}})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := sample()
				r.Start = time.Now()
				for i := 0; pb.Next(); i++ {
					t.Log(r)
					if i%1000 == 0 {
						runtime.Gosched() // or the writer would starve, as it never does for want of work
					}
				}
			})
			if err := t.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(t.access.queue.full.Load())/float64(b.N), "dropped/op")
		})
	}
}

// BenchmarkLogSampledOut is what a request costs that is not logged.
func BenchmarkLogSampledOut(b *testing.B) {
	t := New(Config{AccessLog: AccessLogConfig{Format: AccessLogJSON, Out: io.Discard, Sample: 1 << 30}})
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		t.Log(r)
	}
}

// BenchmarkScrape gathers rules that are all in use, and reports what a rule
// adds to the text.
func BenchmarkScrape(b *testing.B) {
	for _, rules := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			t := New(Config{})
			for i := range rules {
				s := t.Series(proxy.RuleID{Namespace: "team", Route: fmt.Sprintf("route-%d", i), Rule: "api"})
				s.Begin()
				s.End(sample())
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := t.Gather(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(scrape(b, t)))/float64(rules), "text-B/rule")
		})
	}
}

// BenchmarkRetain is what the bookkeeping of the rules adds to applying a plan.
func BenchmarkRetain(b *testing.B) {
	t := New(Config{})
	ids := make([]proxy.RuleID, 10_000)
	for i := range ids {
		ids[i] = proxy.RuleID{Namespace: "team", Route: fmt.Sprintf("route-%d", i), Rule: "api"}
		t.Series(ids[i])
	}
	b.ReportAllocs()
	for b.Loop() {
		t.Retain(ids)
	}
}
