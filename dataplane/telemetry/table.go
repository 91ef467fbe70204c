package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Apply is the outcome of applying a plan.
type Apply struct {
	// Plan that was applied or refused.
	Plan plan.Plan
	// Generation that the table has got; it counts the plans that were applied.
	Generation uint64
	// Took is the time from the plan handed over to its table in use.
	Took time.Duration
	// Err is why the plan was refused; nil when its table is in use.
	Err error
}

// Applied records the outcome of applying a plan. A refused one counts as such
// and changes nothing else, as the table before it is still in use.
func (t *Telemetry) Applied(a Apply) { t.table.applied(a) }

// endpointStates are the values of the label state of ferrum_config_endpoints.
var endpointStates = []plan.EndpointState{plan.Ready, plan.Draining, plan.NotReady}

// tableMetrics say which table is in use. They change with a plan, not with a
// request, so the client library's own types do.
type tableMetrics struct {
	generation, lastSuccess prometheus.Gauge
	routes, rules, pools    prometheus.Gauge
	endpoints               *prometheus.GaugeVec
	applies                 *prometheus.CounterVec
	took                    prometheus.Histogram
}

func newTableMetrics() *tableMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &tableMetrics{
		generation:  gauge("ferrum_config_generation", "Number of the table in use, counting from 1; 0 before the first."),
		lastSuccess: gauge("ferrum_config_last_apply_success_timestamp_seconds", "When the table in use was applied; 0 before the first."),
		routes:      gauge("ferrum_config_routes", "Routes of the table in use."),
		rules:       gauge("ferrum_config_rules", "Rules of the table in use."),
		pools:       gauge("ferrum_config_pools", "Pools of the table in use."),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ferrum_config_endpoints",
			Help: "Endpoints of the pools in use, by what Kubernetes says of them; an endpoint counts once for each pool it is in.",
		}, []string{"state"}),
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ferrum_config_applies_total",
			Help: "Plans handed to the data plane: \"success\" when its table was put to use, \"error\" when it was refused and the one before stays.",
		}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ferrum_config_apply_duration_seconds",
			Help:    "Time from a plan handed to the data plane to its table in use.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8), // 100 us to 1.6 s
		}),
	}
	for _, s := range endpointStates {
		m.endpoints.WithLabelValues(s.String())
	}
	for _, r := range []string{"success", "error"} {
		m.applies.WithLabelValues(r)
	}
	return m
}

func (m *tableMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.generation, m.lastSuccess, m.routes, m.rules, m.pools, m.endpoints, m.applies, m.took,
	}
}

func (m *tableMetrics) applied(a Apply) {
	if a.Err != nil {
		m.applies.WithLabelValues("error").Inc()
		return
	}
	rules := 0
	for _, r := range a.Plan.Routes {
		rules += len(r.Rules)
	}
	states := map[plan.EndpointState]int{}
	for i := range a.Plan.Pools {
		for _, e := range a.Plan.Pools[i].Endpoints {
			states[e.State]++
		}
	}
	m.generation.Set(float64(a.Generation))
	m.lastSuccess.Set(float64(time.Now().UnixMilli()) / 1000)
	m.routes.Set(float64(len(a.Plan.Routes)))
	m.rules.Set(float64(rules))
	m.pools.Set(float64(len(a.Plan.Pools)))
	for _, s := range endpointStates {
		m.endpoints.WithLabelValues(s.String()).Set(float64(states[s]))
	}
	m.took.Observe(a.Took.Seconds())
	m.applies.WithLabelValues("success").Inc()
}
