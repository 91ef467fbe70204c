package controllers

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// metrics of the controllers. Safe for concurrent use.
type metrics struct {
	builds        prometheus.Counter
	applyFailures prometheus.Counter
	propagation   prometheus.Histogram
	lastApply     prometheus.Gauge
	routes        *prometheus.GaugeVec
	statusWrites  *prometheus.CounterVec
	statusLeader  prometheus.Gauge
	watchErrors   *prometheus.CounterVec

	replicaPolls   *prometheus.CounterVec
	replicasBehind prometheus.Gauge
	programmed     prometheus.Histogram
}

// The values of the label result of replicaPolls.
const (
	pollAnswered    = "answered"
	pollFailed      = "failed"      // no answer in time, or none that can be used
	pollUnsupported = "unsupported" // the replica is of a version that cannot say
)

// The values of the label result of statusWrites.
const (
	writeDone    = "written"  // the API server took it
	writeDropped = "conflict" // the object had changed or gone; an event follows
	writeFailed  = "error"    // tried again with backoff
)

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		builds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ferrum_controller_builds_total",
			Help: "Plans built from the objects in the cluster.",
		}),
		applyFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ferrum_controller_apply_failures_total",
			Help: "Plans that the data plane refused; the one before kept serving.",
		}),
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ferrum_controller_propagation_seconds",
			Help:    "Time from the first event of a change to the data plane serving it.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		lastApply: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferrum_controller_last_apply_success_timestamp_seconds",
			Help: "Unix time of the last plan that the data plane took.",
		}),
		routes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ferrum_controller_routes",
			Help: "ProxyRoutes by the status of a condition, as this replica sees them.",
		}, []string{"condition", "status"}),
		statusWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferrum_controller_status_writes_total",
			Help: "Statuses sent to the API server, by result.",
		}, []string{"result"}),
		statusLeader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferrum_controller_status_leader",
			Help: "1 while this replica writes statuses.",
		}),
		watchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferrum_controller_watch_errors_total",
			Help: "Lists and watches that the API server did not answer or refused, by kind.",
		}, []string{"kind"}),
		replicaPolls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferrum_controller_replica_polls_total",
			Help: "Questions to replicas what they serve, asked by the one that writes statuses, by result.",
		}, []string{"result"}),
		replicasBehind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferrum_controller_replicas_behind",
			Help: "Ready replicas that do not say that they serve all that the one that writes statuses does; 0 elsewhere.",
		}),
		programmed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ferrum_controller_programmed_seconds",
			Help:    "Time from the replica that writes statuses serving a version of a route to every ready replica having said so.",
			Buckets: []float64{.1, .25, .5, 1, 1.5, 2.5, 5, 10, 30, 60, 300},
		}),
	}
	for _, c := range []prometheus.Collector{m.builds, m.applyFailures, m.propagation, m.lastApply,
		m.routes, m.statusWrites, m.statusLeader, m.watchErrors, m.replicaPolls, m.replicasBehind, m.programmed} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the controllers: %w", err)
		}
	}
	for _, result := range []string{writeDone, writeDropped, writeFailed} {
		m.statusWrites.WithLabelValues(result)
	}
	for _, result := range []string{pollAnswered, pollFailed, pollUnsupported} {
		m.replicaPolls.WithLabelValues(result)
	}
	return m, nil
}

// applied records a plan that the data plane took. since is the time of the
// first event that it answers; the zero time when there was none.
func (m *metrics) applied(since time.Time) {
	now := time.Now()
	m.lastApply.Set(float64(now.UnixMilli()) / 1000)
	if !since.IsZero() {
		m.propagation.Observe(now.Sub(since).Seconds())
	}
}

// countRoutes publishes how many routes have Accepted and Programmed True and
// False.
func (m *metrics) countRoutes(set verdictSet) {
	count := map[[2]string]int{}
	for key, v := range set {
		if key.kind != kindRoute {
			continue
		}
		for _, c := range v.conditions {
			count[[2]string{c.Type, string(c.Status)}]++
		}
	}
	for _, condition := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		for _, status := range []string{"True", "False"} {
			m.routes.WithLabelValues(condition, status).Set(float64(count[[2]string{condition, status}]))
		}
	}
}
