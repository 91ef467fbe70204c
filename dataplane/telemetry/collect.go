package telemetry

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// family returns what describes the metrics that have the same first labels.
func family(first ...string) func(name, help string, labels ...string) *prometheus.Desc {
	return func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, slices.Concat(first, labels), nil)
	}
}

var ruleDesc = family("namespace", "route", "rule")

// The metrics of the rules. The labels namespace, route and rule are empty for
// requests that no rule took.
var (
	descRequests = ruleDesc("ferrum_requests_total",
		"Requests ended, by the class of the status sent to the client; \"none\" when nothing was sent.", "code_class")
	descDuration = ruleDesc("ferrum_request_duration_seconds",
		"Time from the first byte of a request read to the last byte of its response written.")
	descInFlight = ruleDesc("ferrum_requests_in_flight",
		"Requests begun and not yet ended.")
	descFailures = ruleDesc("ferrum_request_failures_total",
		"Requests that did not end with the whole answer of a backend, by reason and by the side that failed.", "reason", "side")
	descBytesIn = ruleDesc("ferrum_request_body_bytes_total",
		"Bytes of request bodies read from clients.")
	descBytesOut = ruleDesc("ferrum_response_body_bytes_total",
		"Bytes of response bodies written to clients.")
	descHeader = ruleDesc("ferrum_upstream_header_duration_seconds",
		"Time from a request sent to an endpoint to its response header read.")
	descAttempts = ruleDesc("ferrum_upstream_attempts_total",
		"Attempts to have a request answered by an endpoint, summed over all requests.")
	descRetries = ruleDesc("ferrum_upstream_retries_total",
		"Attempts that were followed by another one, by why.", "why")
	descRetriesRefused = ruleDesc("ferrum_upstream_retries_refused_total",
		"Attempts that failed and were not followed by another one, by why not.", "why")

	descWouldLimit = ruleDesc("ferrum_rate_limit_dry_run_total",
		"Requests that a rate limit in dry run would have refused.")

	descRules = prometheus.NewDesc("ferrum_rule_series",
		"Rules whose requests are counted under their own name.", nil, nil)
	descSharing = prometheus.NewDesc("ferrum_rule_series_overflowed",
		"Rules whose requests are counted together as route \"_overflow\" because there are too many rules.", nil, nil)
	descOverflow = prometheus.NewDesc("ferrum_rule_series_overflow_total",
		"Times that a rule was put to the route \"_overflow\".", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *ruleSet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRequests, descDuration, descInFlight, descFailures, descBytesIn, descBytesOut,
		descHeader, descAttempts, descRetries, descRetriesRefused, descWouldLimit, descRules, descSharing, descOverflow,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *ruleSet) Collect(ch chan<- prometheus.Metric) {
	snap := s.snapshot()
	for _, r := range snap.all {
		r.collect(ch)
	}
	ch <- gauge(descRules, float64(snap.live))
	ch <- gauge(descSharing, float64(snap.sharing))
	ch <- counter(descOverflow, snap.overflowed)
}

// totals are the counters of a rule, summed over its shards.
type totals struct {
	classes           [classCount]uint64
	started, ended    uint64
	duration, header  histogramTotal
	attempts          uint64
	bytesIn, bytesOut uint64
}

func (s *ruleSeries) totals() *totals {
	t := new(totals)
	for i := range s.shards {
		sh := s.shards[i].Load()
		if sh == nil {
			continue
		}
		for c := range sh.classes {
			n := sh.classes[c].Load()
			t.classes[c] += n
			t.ended += n
		}
		t.duration.add(&sh.duration)
		t.header.add(&sh.header)
		t.attempts += sh.attempts.Load()
		t.bytesIn += sh.bytesIn.Load()
		t.bytesOut += sh.bytesOut.Load()
	}
	// After all that ended, on all shards: what has ended had started before,
	// so there are never fewer than zero in flight.
	for i := range s.shards {
		if sh := s.shards[i].Load(); sh != nil {
			t.started += sh.started.Load()
		}
	}
	return t
}

// collect sends what there is of the rule. A rule that took no request yet
// shows zeros for the usual classes only: thousands of unused rules stay cheap,
// and the first answer of each class is still seen as an increase.
func (s *ruleSeries) collect(ch chan<- prometheus.Metric) {
	t := s.totals()
	namespace, route, rule := label("namespace", s.id.Namespace), label("route", s.id.Route), label("rule", s.id.Rule)
	for c, n := range t.classes {
		if n > 0 || c >= 2 {
			ch <- counter(descRequests, n, classLabels[c], namespace, route, rule)
		}
	}
	if t.started == 0 && t.ended == 0 {
		return
	}
	own := []*dto.LabelPair{namespace, route, rule}
	ch <- gauge(descInFlight, float64(t.started-t.ended), own...)
	ch <- t.duration.metric(descDuration, own)
	if t.attempts > 0 {
		ch <- t.header.metric(descHeader, own)
	}
	ch <- counter(descAttempts, t.attempts, own...)
	ch <- counter(descBytesIn, t.bytesIn, own...)
	ch <- counter(descBytesOut, t.bytesOut, own...)
	if n := s.wouldLimit.Load(); n > 0 {
		ch <- counter(descWouldLimit, n, own...)
	}
	if r := s.retries.Load(); r != nil {
		for i := range *r {
			n, why := (*r)[i].Load(), retry.Why(i)
			switch {
			case n == 0:
			case why.Again():
				ch <- counter(descRetries, n, namespace, route, rule, label("why", why.String()))
			default:
				ch <- counter(descRetriesRefused, n, namespace, route, rule, label("why", why.String()))
			}
		}
	}
	if f := s.failures.Load(); f != nil {
		for i := range *f {
			if n := (*f)[i].Load(); n > 0 {
				r := proxy.Reason(i)
				ch <- counter(descFailures, n, namespace, label("reason", r.String()), route, rule, label("side", r.Side().String()))
			}
		}
	}
}
