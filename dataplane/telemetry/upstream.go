package telemetry

import (
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// UpstreamStats is what there is to say of the endpoints of a Service port. None
// of it names an endpoint: there are too many, and they come and go.
type UpstreamStats struct {
	Namespace, Service string
	Port               uint16
	// Endpoints by their state.
	Endpoints map[string]int
	Panic     bool

	Ejections, SkippedEjections uint64
	// Transitions between states.
	Transitions []TransitionCount
	// Bounded: a circuit breaker bounds what is asked of it. Then Parallel requests
	// are under way, of ParallelLimit (0 = none), and Pending wait.
	Bounded                          bool
	Parallel, ParallelLimit, Pending uint64
	// Overflows were turned away at once, QueueTimeouts after a wait.
	Overflows, QueueTimeouts uint64
	// GoodProbes and BadProbes are the active checks.
	GoodProbes, BadProbes uint64
}

// TransitionCount is how often endpoints went from one state to another.
type TransitionCount struct {
	From, To string
	Count    uint64
}

// RegisterUpstreams exports what list returns, asking it at every scrape from
// any goroutine. Each Service port must occur once. It is called once.
func (t *Telemetry) RegisterUpstreams(list func() []UpstreamStats) {
	t.registry.MustRegister(upstreams(list))
}

var upstreamDesc = family("namespace", "service", "port")

var (
	descEndpoints = upstreamDesc("ferrum_upstream_endpoints",
		"Endpoints of a Service port by what is known of them; one that is in several pools counts in each.", "state")
	descPanic = upstreamDesc("ferrum_upstream_panic",
		"1 while so few endpoints are healthy that requests go to all that are ready.")
	descEjections = upstreamDesc("ferrum_upstream_ejections_total",
		"Times that an endpoint was ejected because requests failed.")
	descSkipped = upstreamDesc("ferrum_upstream_ejections_skipped_total",
		"Ejections that were called for and not made, because too many endpoints were ejected already or no other was left.")
	descTransitions = upstreamDesc("ferrum_upstream_health_transitions_total",
		"Changes of state of endpoints.", "from", "to")
	descProbes = upstreamDesc("ferrum_upstream_probes_total",
		"Active checks, by result.", "result")
	descParallel = upstreamDesc("ferrum_upstream_parallel_requests",
		"Requests under way to a Service port that a circuit breaker bounds.")
	descParallelLimit = upstreamDesc("ferrum_upstream_parallel_requests_limit",
		"The lowest bound on them at the moment; 0 while there is none.")
	descPending = upstreamDesc("ferrum_upstream_pending_requests",
		"Requests that wait for a place there.")
	descOverflows = upstreamDesc("ferrum_upstream_overflows_total",
		"Requests that got no place: \"queue_full\" at once, \"queue_timeout\" after the longest wait.", "reason")
)

// upstreams is the collector of what the pools tell.
type upstreams func() []UpstreamStats

// Describe implements prometheus.Collector.
func (upstreams) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEndpoints, descPanic, descEjections, descSkipped, descTransitions, descProbes,
		descParallel, descParallelLimit, descPending, descOverflows} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (list upstreams) Collect(ch chan<- prometheus.Metric) {
	for _, s := range list() {
		s.collect(ch)
	}
}

func (s *UpstreamStats) collect(ch chan<- prometheus.Metric) {
	// Pairs in the order of their names, as the other collectors of the package.
	namespace, port, service := label("namespace", s.Namespace), label("port", strconv.Itoa(int(s.Port))), label("service", s.Service)
	own := []*dto.LabelPair{namespace, port, service}
	for _, state := range slices.Sorted(maps.Keys(s.Endpoints)) {
		ch <- gauge(descEndpoints, float64(s.Endpoints[state]), namespace, port, service, label("state", state))
	}
	inPanic := 0.0
	if s.Panic {
		inPanic = 1
	}
	ch <- gauge(descPanic, inPanic, own...)
	ch <- counter(descEjections, s.Ejections, own...)
	ch <- counter(descSkipped, s.SkippedEjections, own...)
	for _, t := range s.Transitions {
		ch <- counter(descTransitions, t.Count, label("from", t.From), namespace, port, service, label("to", t.To))
	}
	if s.Bounded {
		ch <- gauge(descParallel, float64(s.Parallel), own...)
		ch <- gauge(descParallelLimit, float64(s.ParallelLimit), own...)
		ch <- gauge(descPending, float64(s.Pending), own...)
		ch <- counter(descOverflows, s.Overflows, namespace, port, label("reason", "queue_full"), service)
		ch <- counter(descOverflows, s.QueueTimeouts, namespace, port, label("reason", "queue_timeout"), service)
	}
	if s.GoodProbes > 0 || s.BadProbes > 0 {
		ch <- counter(descProbes, s.GoodProbes, namespace, port, label("result", "success"), service)
		ch <- counter(descProbes, s.BadProbes, namespace, port, label("result", "failure"), service)
	}
}
