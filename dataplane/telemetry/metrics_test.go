package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

var apiRule = proxy.RuleID{Namespace: "shop", Route: "web", Rule: "api"}

// scrape returns what a scraper gets.
func scrape(tb testing.TB, t *Telemetry) string {
	tb.Helper()
	w := httptest.NewRecorder()
	t.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples returns the scraped samples whose line contains all of the parts,
// without Go's own.
func samples(tb testing.TB, t *Telemetry, parts ...string) []string {
	tb.Helper()
	var found []string
	for ln := range strings.Lines(scrape(tb, t)) {
		ln = strings.TrimSuffix(ln, "\n")
		if strings.HasPrefix(ln, "ferrum_") && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(ln, p) }) {
			found = append(found, ln)
		}
	}
	return found
}

func wantSamples(t *testing.T, tel *Telemetry, parts []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, samples(t, tel, parts...)); diff != "" {
		t.Errorf("samples with %q: %s", parts, diff)
	}
}

// request counts a request that has ended.
func request(s proxy.Series, r *proxy.Record) {
	s.Begin()
	s.End(r)
}

func TestARequestIsCountedUnderItsRuleWithStatusClassDurationAndBytes(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	r := sample()
	r.BytesIn = 10
	request(s, r)
	r.Duration, r.Status, r.UpstreamHeader, r.Attempts = 3*time.Second, 404, 0, 2
	request(s, r)
	s.Begin()

	const id = `namespace="shop",route="web",rule="api"`
	var want []string
	add := func(format string, args ...any) { want = append(want, fmt.Sprintf(format, args...)) }
	histogram := func(name string, counts [bucketCount]int, sum string) {
		for i, n := range counts {
			le := "+Inf"
			if i < len(bucketBounds) {
				le = fmt.Sprint(bucketBounds[i].Seconds())
			}
			add(`%s_bucket{%s,le="%s"} %d`, name, id, le, n)
		}
		add(`%s_sum{%s} %s`, name, id, sum)
		add(`%s_count{%s} %d`, name, id, counts[bucketCount-1])
	}
	add(`ferrum_request_body_bytes_total{%s} 20`, id)
	histogram("ferrum_request_duration_seconds", [...]int{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2}, "3.012345678")
	add(`ferrum_requests_in_flight{%s} 1`, id)
	for class, n := range map[string]int{"2xx": 1, "3xx": 0, "4xx": 1, "5xx": 0} {
		add(`ferrum_requests_total{code_class="%s",%s} %d`, class, id, n)
	}
	add(`ferrum_response_body_bytes_total{%s} 2048`, id)
	add(`ferrum_upstream_attempts_total{%s} 3`, id)
	histogram("ferrum_upstream_header_duration_seconds", [...]int{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, "0.011")
	got := samples(t, tel, id)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnObservationOnABoundBelongsToTheBucketBelowIt(t *testing.T) {
	for i, bound := range bucketBounds {
		var h histogram
		h.observe(bound)
		h.observe(bound + 1)
		if h.buckets[i].Load() != 1 || h.buckets[i+1].Load() != 1 {
			t.Errorf("%v and one nanosecond more are not in buckets %d and %d", bound, i, i+1)
		}
	}
	var h histogram
	h.observe(-time.Hour)
	if h.buckets[0].Load() != 1 || h.sum.Load() != 0 {
		t.Error("a negative duration does not count as zero")
	}
}

func TestEveryStatusHasItsClass(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	for _, status := range []int{0, -5, 99, 101, 200, 299, 301, 418, 503, 599, 600, 1000} {
		request(s, &proxy.Record{Status: status})
	}
	wantSamples(t, tel, []string{"ferrum_requests_total", "web"},
		`ferrum_requests_total{code_class="1xx",namespace="shop",route="web",rule="api"} 1`,
		`ferrum_requests_total{code_class="2xx",namespace="shop",route="web",rule="api"} 2`,
		`ferrum_requests_total{code_class="3xx",namespace="shop",route="web",rule="api"} 1`,
		`ferrum_requests_total{code_class="4xx",namespace="shop",route="web",rule="api"} 1`,
		`ferrum_requests_total{code_class="5xx",namespace="shop",route="web",rule="api"} 2`,
		`ferrum_requests_total{code_class="none",namespace="shop",route="web",rule="api"} 5`)
}

func TestEveryReasonButOKIsAFailureNamingItsSide(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	var want []string
	for i, reason := range proxy.Reasons() {
		for range i + 1 {
			request(s, &proxy.Record{Status: reason.Status(), Reason: reason})
		}
		if reason != proxy.ReasonOK {
			want = append(want, fmt.Sprintf(
				`ferrum_request_failures_total{namespace="shop",reason="%s",route="web",rule="api",side="%s"} %d`,
				reason, reason.Side(), i+1))
		}
	}
	slices.Sort(want)
	wantSamples(t, tel, []string{"ferrum_request_failures_total"}, want...)
}

func TestRequestsThatNoRuleTookHaveEmptyLabels(t *testing.T) {
	tel := New(Config{})
	request(tel.Series(proxy.RuleID{}), &proxy.Record{Status: 404, Reason: proxy.ReasonNoRoute})
	tel.Retain(nil) // never drops them
	wantSamples(t, tel, []string{`ferrum_requests_total{code_class="4xx"`},
		`ferrum_requests_total{code_class="4xx",namespace="",route="",rule=""} 1`)
	wantSamples(t, tel, []string{"failures"},
		`ferrum_request_failures_total{namespace="",reason="no_route",route="",rule="",side="proxy"} 1`)
}

func TestTheNumberOfSeriesIsAFunctionOfTheRules(t *testing.T) {
	tel := New(Config{})
	base := len(samples(t, tel))
	used, unused := apiRule, proxy.RuleID{Namespace: "shop", Route: "web", Rule: "other"}
	tel.Series(unused)
	if got := len(samples(t, tel)) - base; got != 4 {
		t.Errorf("a rule without requests has %d series, want 4", got)
	}
	for range 100 {
		request(tel.Series(used), sample())
	}
	if got := len(samples(t, tel)) - base - 4; got != 44 {
		t.Errorf("a rule in use has %d series, want 44", got)
	}
}

func TestEqualIDsHaveTheSameSeriesUntilTheRuleIsDropped(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	tel.Retain([]proxy.RuleID{{Namespace: "x"}, apiRule})
	if tel.Series(apiRule) != s {
		t.Error("another series for the same id")
	}
	request(s, sample())
	tel.Retain(nil)
	if got := samples(t, tel, `route="web"`); len(got) > 0 {
		t.Errorf("a dropped rule still has series: %q", got)
	}
	if tel.Series(apiRule) == s {
		t.Error("a rule that came back does not start anew")
	}
	wantSamples(t, tel, []string{`code_class="2xx"`, "web"},
		`ferrum_requests_total{code_class="2xx",namespace="shop",route="web",rule="api"} 0`)
}

func TestARequestInFlightOnADroppedRuleEndsWithoutBringingItBack(t *testing.T) {
	tel := New(Config{})
	old := tel.Series(apiRule)
	old.Begin()
	tel.Retain(nil)
	old.End(&proxy.Record{Status: 502, Reason: proxy.ReasonUpstreamReset})
	if got := samples(t, tel, `route="web"`); len(got) > 0 {
		t.Errorf("a dropped rule has series again: %q", got)
	}
	renewed := tel.Series(apiRule)
	renewed.Begin()
	old.Begin()
	old.End(sample())
	wantSamples(t, tel, []string{"in_flight", "web"},
		`ferrum_requests_in_flight{namespace="shop",route="web",rule="api"} 1`)
}

func TestRulesBeyondTheBoundAreCountedTogether(t *testing.T) {
	tel := New(Config{MaxRules: 2})
	id := func(i int) proxy.RuleID { return proxy.RuleID{Namespace: "n", Route: fmt.Sprint("r", i), Rule: "x"} }
	for range 2 { // as two plans would
		for i := range 4 {
			request(tel.Series(id(i)), sample())
		}
		tel.Retain([]proxy.RuleID{id(0), id(1), id(2), id(3)})
	}
	wantSamples(t, tel, []string{`code_class="2xx"`},
		`ferrum_requests_total{code_class="2xx",namespace="",route="",rule=""} 0`,
		`ferrum_requests_total{code_class="2xx",namespace="",route="_overflow",rule=""} 4`,
		`ferrum_requests_total{code_class="2xx",namespace="n",route="r0",rule="x"} 2`,
		`ferrum_requests_total{code_class="2xx",namespace="n",route="r1",rule="x"} 2`)
	wantSamples(t, tel, []string{"ferrum_rule_series"},
		"ferrum_rule_series 2", "ferrum_rule_series_overflow_total 2", "ferrum_rule_series_overflowed 2")

	// Room for one: the next that is asked for takes it.
	tel.Retain([]proxy.RuleID{id(0), id(3)})
	request(tel.Series(id(3)), sample())
	request(tel.Series(id(4)), sample())
	wantSamples(t, tel, []string{`code_class="2xx"`},
		`ferrum_requests_total{code_class="2xx",namespace="",route="",rule=""} 0`,
		`ferrum_requests_total{code_class="2xx",namespace="",route="_overflow",rule=""} 5`,
		`ferrum_requests_total{code_class="2xx",namespace="n",route="r0",rule="x"} 2`,
		`ferrum_requests_total{code_class="2xx",namespace="n",route="r3",rule="x"} 1`)
	wantSamples(t, tel, []string{"ferrum_rule_series"},
		"ferrum_rule_series 2", "ferrum_rule_series_overflow_total 3", "ferrum_rule_series_overflowed 1")
}

func TestScrapesDuringTrafficAndChangesOfThePlanAreConsistent(t *testing.T) {
	tel := New(Config{})
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for range 2 {
		traffic.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r := sample()
				r.Reason = proxy.Reasons()[i%len(proxy.Reasons())]
				request(tel.Series(proxy.RuleID{Route: fmt.Sprint("r", i%3)}), r)
			}
		})
	}
	for i := range 30 {
		if _, err := tel.Gather(); err != nil {
			t.Error(err)
		}
		for _, s := range samples(t, tel, "in_flight") {
			if strings.Contains(s, "} -") || strings.Contains(s, "e+") {
				t.Errorf("less than nothing in flight: %s", s)
			}
		}
		tel.Retain([]proxy.RuleID{{Route: fmt.Sprint("r", i%3)}})
	}
	close(stop)
	traffic.Wait()
}

func TestCountersOfAllCoresAreSummed(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	const goroutines, each = 8, 1000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				request(s, &proxy.Record{Status: 502, Reason: proxy.ReasonConnectRefused, BytesIn: 1})
			}
		})
	}
	wg.Wait()
	for part, want := range map[string]string{
		`code_class="5xx"`: "8000", "failures": "8000", "duration_seconds_count": "8000", "in_flight": "0", "request_body_bytes": "8000",
	} {
		got := samples(t, tel, part, "web")
		if len(got) != 1 || !strings.HasSuffix(got[0], "} "+want) {
			t.Errorf("%s: %q, want %s", part, got, want)
		}
	}
}

func TestShardsDoNotShareCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(shard{}); size%64 != 0 {
		t.Errorf("a shard has %d bytes, want a multiple of 64", size)
	}
}

func TestCountingARequestAllocatesNothing(t *testing.T) {
	s := New(Config{}).Series(apiRule)
	r := sample()
	r.Reason = proxy.ReasonResponseCut
	if n := testing.AllocsPerRun(1000, func() { request(s, r) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestMetricsAreNamedAsPrometheusAdvises(t *testing.T) {
	tel := fullTelemetry(t)
	problems, err := testutil.GatherAndLint(tel)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// fullTelemetry returns one that exports every metric it has.
func fullTelemetry(t *testing.T) *Telemetry {
	t.Helper()
	tel := New(Config{AccessLog: AccessLogConfig{Format: AccessLogJSON, Out: &sink{}}})
	t.Cleanup(func() {
		if err := tel.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r := sample()
	r.Reason, r.WouldLimit = proxy.ReasonResponseCut, true
	request(tel.Series(apiRule), r)
	tel.Series(apiRule).Retry(retry.WhyUnsent)
	tel.Series(apiRule).Retry(retry.WhyBudget)
	tel.RegisterUpstreams(func() []UpstreamStats {
		return []UpstreamStats{{
			Namespace: "shop", Service: "web", Port: 80, Endpoints: map[string]int{"serving": 2, "ejected": 1},
			Panic: true, Ejections: 3, SkippedEjections: 4, GoodProbes: 5, BadProbes: 6,
			Transitions: []TransitionCount{{"serving", "ejected", 7}},
			Bounded:     true, Parallel: 8, ParallelLimit: 9, Pending: 10, Overflows: 11, QueueTimeouts: 12,
		}}
	})
	return tel
}

func TestRetriesAndThoseThatWereRefusedAreCountedByWhy(t *testing.T) {
	tel := New(Config{})
	s := tel.Series(apiRule)
	request(s, sample())
	for _, why := range retry.Whys() {
		if why != retry.WhyFinal {
			s.Retry(why)
		}
	}
	s.Retry(retry.WhyUnsent)
	const id = `{namespace="shop",route="web",rule="api",why=`
	wantSamples(t, tel, []string{"ferrum_upstream_retries_total"},
		`ferrum_upstream_retries_total`+id+`"hedge"} 1`,
		`ferrum_upstream_retries_total`+id+`"reset"} 1`,
		`ferrum_upstream_retries_total`+id+`"stale"} 1`,
		`ferrum_upstream_retries_total`+id+`"status"} 1`,
		`ferrum_upstream_retries_total`+id+`"timeout"} 1`,
		`ferrum_upstream_retries_total`+id+`"unsent"} 2`,
	)
	if n := len(samples(t, tel, "ferrum_upstream_retries_refused_total")); n != 9 {
		t.Errorf("%d reasons not to retry", n)
	}
}

func TestTheEndpointsOfAServicePortAreCountedByState(t *testing.T) {
	const id = `namespace="shop",port="80",service="web"`
	wantSamples(t, fullTelemetry(t), []string{"ferrum_upstream_", `port="80"`},
		`ferrum_upstream_ejections_skipped_total{`+id+`} 4`,
		`ferrum_upstream_ejections_total{`+id+`} 3`,
		`ferrum_upstream_endpoints{`+id+`,state="ejected"} 1`,
		`ferrum_upstream_endpoints{`+id+`,state="serving"} 2`,
		`ferrum_upstream_health_transitions_total{from="serving",`+id+`,to="ejected"} 7`,
		`ferrum_upstream_overflows_total{namespace="shop",port="80",reason="queue_full",service="web"} 11`,
		`ferrum_upstream_overflows_total{namespace="shop",port="80",reason="queue_timeout",service="web"} 12`,
		`ferrum_upstream_panic{`+id+`} 1`,
		`ferrum_upstream_parallel_requests{`+id+`} 8`,
		`ferrum_upstream_parallel_requests_limit{`+id+`} 9`,
		`ferrum_upstream_pending_requests{`+id+`} 10`,
		`ferrum_upstream_probes_total{namespace="shop",port="80",result="failure",service="web"} 6`,
		`ferrum_upstream_probes_total{namespace="shop",port="80",result="success",service="web"} 5`,
	)
}

func TestWhatADryRunWouldHaveRefusedIsCounted(t *testing.T) {
	wantSamples(t, fullTelemetry(t), []string{"ferrum_rate_limit_"},
		`ferrum_rate_limit_dry_run_total{namespace="shop",route="web",rule="api"} 1`)
}

// TestDocsListEveryMetric holds the tables of docs/metrics.md to what is
// exported: name, type and labels. They may list more, which other packages
// register.
func TestDocsListEveryMetric(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(ferrum_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = m[2] + " " + strings.TrimSpace(strings.ReplaceAll(m[3], "`", ""))
	}
	families, err := fullTelemetry(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "ferrum_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		exported[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ", ")
	}
	for name, got := range exported {
		if documented[name] != got {
			t.Errorf("%s is documented as %q, exported as %q", name, documented[name], got)
		}
	}
}

func TestAnAppliedPlanShowsWhatIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for the time that is exported
		tel := New(Config{})
		addr := netip.MustParseAddrPort("192.0.2.1:80")
		p := plan.Plan{
			Routes: []*plan.Route{{Rules: make([]plan.Rule, 2)}, {Rules: make([]plan.Rule, 1)}},
			Pools: []plan.Pool{{Endpoints: []plan.Endpoint{
				{Addr: addr}, {Addr: addr}, {Addr: addr, State: plan.Draining},
			}}, {}},
		}
		tel.Applied(Apply{Plan: p, Generation: 7, Took: 3 * time.Millisecond})
		applied := []string{
			`ferrum_config_applies_total{result="error"} 0`,
			`ferrum_config_applies_total{result="success"} 1`,
			`ferrum_config_endpoints{state="draining"} 1`,
			`ferrum_config_endpoints{state="not-ready"} 0`,
			`ferrum_config_endpoints{state="ready"} 2`,
			"ferrum_config_generation 7",
			fmt.Sprintf("ferrum_config_last_apply_success_timestamp_seconds %v", float64(time.Now().Unix())),
			"ferrum_config_pools 2",
			"ferrum_config_routes 2",
			"ferrum_config_rules 3",
		}
		config := func() []string {
			return slices.DeleteFunc(samples(t, tel, "ferrum_config"), func(s string) bool { return strings.Contains(s, "apply_duration") })
		}
		if diff := cmp.Diff(applied, config()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Hour)
		tel.Applied(Apply{Err: errors.New("no")})
		applied[0] = `ferrum_config_applies_total{result="error"} 1`
		if diff := cmp.Diff(applied, config()); diff != "" {
			t.Errorf("after a plan that was refused: %s", diff)
		}
		wantSamples(t, tel, []string{"apply_duration_seconds_sum"}, "ferrum_config_apply_duration_seconds_sum 0.003")
	})
}

func TestRegisteredFunctionsAreAskedAtEveryScrape(t *testing.T) {
	tel := New(Config{})
	n := 0.0
	tel.RegisterGauge("ferrum_connections", "Connections.", func() float64 { n++; return n }, Label{"state", "idle"})
	tel.RegisterGauge("ferrum_connections", "Connections.", func() float64 { return 9 }, Label{"state", "active"})
	tel.RegisterCounter("ferrum_connections_accepted_total", "Connections accepted.", func() float64 { return 3 })
	for _, want := range []string{"1", "2"} {
		wantSamples(t, tel, []string{"ferrum_connections"},
			`ferrum_connections{state="active"} 9`, `ferrum_connections{state="idle"} `+want, "ferrum_connections_accepted_total 3")
	}
}

// brokenCollector is a source that fails.
type brokenCollector struct{}

func (brokenCollector) Describe(chan<- *prometheus.Desc) {}
func (brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "x", nil, nil), errors.New("broken"))
}

func TestFurtherGatherersAreServedAndOwnMetricsWin(t *testing.T) {
	other := prometheus.NewRegistry()
	own := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ferrum_config_rules", Help: "Another."})
	extra := prometheus.NewCounter(prometheus.CounterOpts{Name: "controller_things_total", Help: "Things."})
	own.Set(99)
	other.MustRegister(own, extra)
	broken := prometheus.NewRegistry()
	broken.MustRegister(brokenCollector{})

	tel := New(Config{Gatherers: []Gatherer{broken, other, other}})
	text := scrape(t, tel)
	for want, times := range map[string]int{"ferrum_config_rules 0": 1, "ferrum_config_rules 99": 0, "\ncontroller_things_total 0": 1, "\ngo_goroutines ": 1} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%q occurs %d times, want %d", want, got, times)
		}
	}
}

func TestTheBuildIsNamed(t *testing.T) {
	got := samples(t, New(Config{Version: "v1.2.3"}), "ferrum_build_info")
	if len(got) != 1 || !strings.Contains(got[0], `version="v1.2.3"`) || !strings.Contains(got[0], `goversion="go1.`) {
		t.Errorf("build info: %q", got)
	}
}
