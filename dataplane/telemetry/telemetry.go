package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// DefaultMaxRules is the number of rules that have series of their own when
// Config does not say otherwise.
const DefaultMaxRules = 20000

// maxScrapes bounds the scrapes that are answered at the same time; another one
// gets 503. A scrape of many rules takes memory, and a scraper that gives up
// and comes back must not pile them up.
const maxScrapes = 4

// Gatherer is a source of further metrics, such as another registry of the
// process. It is an alias so that who hands one over needs no other import.
type Gatherer = prometheus.Gatherer

// Config of a Telemetry. The zero value has no access log.
type Config struct {
	// AccessLog says which lines are written, how, and where to.
	AccessLog AccessLogConfig
	// Version of the program, for ferrum_build_info; "" takes the version of
	// the main module from the build.
	Version string
	// MaxRules bounds the rules that have series of their own; 0 means
	// DefaultMaxRules. While a plan replaces another, the rules of both count.
	MaxRules int
	// Gatherers whose metrics are served together with the data plane's. Of a
	// metric that occurs in several, the first is served: the data plane's own,
	// then these in their order.
	Gatherers []Gatherer
	// Log receives what goes wrong here; the zero value discards it.
	Log logr.Logger
}

// Telemetry counts requests and writes the access log. It implements
// proxy.Sink.
type Telemetry struct {
	registry *prometheus.Registry
	extra    []Gatherer
	log      logr.Logger
	rules    *ruleSet
	table    *tableMetrics
	access   *accessLog // nil: off
}

var _ proxy.Sink = (*Telemetry)(nil)

// New returns a Telemetry, whose access log is written until Close. It panics
// on an AccessLog that Validate refuses.
func New(cfg Config) *Telemetry {
	if err := cfg.AccessLog.Validate(); err != nil {
		panic("telemetry: " + err.Error())
	}
	t := &Telemetry{
		registry: prometheus.NewRegistry(),
		extra:    cfg.Gatherers,
		log:      cfg.Log,
		rules:    newRuleSet(cmp.Or(cfg.MaxRules, DefaultMaxRules), cfg.Log),
		table:    newTableMetrics(),
	}
	t.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(cfg.Version),
		t.rules,
	)
	t.registry.MustRegister(t.table.collectors()...)
	if cfg.AccessLog.enabled() {
		t.access = newAccessLog(cfg.AccessLog, cfg.Log)
		t.registerAccessLog()
	}
	return t
}

// Close writes the access log lines that wait, and stops its writer. Lines of
// requests that end later are dropped. It returns an error when ctx ends first,
// because the reader of the log is stuck; the lines are lost then.
func (t *Telemetry) Close(ctx context.Context) error {
	if t.access == nil {
		return nil
	}
	return t.access.close(ctx)
}

// Series returns the counters of a rule, the same for equal ids until Retain
// drops them. Beyond the bound on rules it returns the counters that all
// further rules share.
func (t *Telemetry) Series(id proxy.RuleID) proxy.Series { return t.rules.series(id) }

// Retain drops the series of all rules that are not in ids.
func (t *Telemetry) Retain(ids []proxy.RuleID) { t.rules.retain(ids) }

// Log writes the access log line of a request, unless the log is off or the
// request is left out by sampling. It never blocks on the reader of the log.
func (t *Telemetry) Log(r *proxy.Record) {
	if t.access != nil {
		t.access.log(r)
	}
}

// SetSample logs one of n requests that went well from now on, if the access log
// is on; n is at least 1.
func (t *Telemetry) SetSample(n int) {
	if t.access != nil {
		t.access.sample.Store(int64(max(n, 1)))
	}
}

// Label is a constant label of a metric.
type Label struct {
	Name, Value string
}

// RegisterGauge exports value under the name, asking it at every scrape from
// any goroutine. A name may be registered again with the same help, the same
// label names and other label values. Names and labels are decided in code, so
// a wrong or taken one is a defect, and panics.
func (t *Telemetry) RegisterGauge(name, help string, value func() float64, labels ...Label) {
	t.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constLabels(labels)}, value))
}

// RegisterCounter is RegisterGauge for a value that only ever grows. Its name
// ends in _total.
func (t *Telemetry) RegisterCounter(name, help string, value func() float64, labels ...Label) {
	t.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constLabels(labels)}, value))
}

func constLabels(labels []Label) prometheus.Labels {
	if len(labels) == 0 {
		return nil
	}
	m := make(prometheus.Labels, len(labels))
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	return m
}

// Handler serves the metrics in the format that the scraper asks for.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t, promhttp.HandlerOpts{
		// One bad gatherer must not hide what the others say.
		ErrorHandling:       promhttp.ContinueOnError,
		ErrorLog:            scrapeLog{t.log},
		MaxRequestsInFlight: maxScrapes,
	})
}

// scrapeLog logs what promhttp reports.
type scrapeLog struct{ log logr.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.Error(errors.New(fmt.Sprint(v...)), "a scrape of the metrics is incomplete")
}

// Gather returns all metrics, sorted by name: the data plane's and those of
// Config.Gatherers. It is not prometheus.Gatherers because that refuses a
// metric that occurs in two of them, and every registry brings its own Go and
// process metrics.
func (t *Telemetry) Gather() ([]*dto.MetricFamily, error) {
	all, err := t.registry.Gather()
	errs := []error{err}
	seen := make(map[string]bool, len(all))
	for _, f := range all {
		seen[f.GetName()] = true
	}
	for _, g := range t.extra {
		families, err := g.Gather()
		errs = append(errs, err)
		for _, f := range families {
			if !seen[f.GetName()] {
				seen[f.GetName()] = true
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all, errors.Join(errs...)
}

// buildInfo is a gauge that is always 1 and names the build.
func buildInfo(version string) prometheus.Collector {
	goVersion := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
		version = cmp.Or(version, info.Main.Version)
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ferrum_build_info",
		Help: "Always 1. The labels name the build.",
		ConstLabels: prometheus.Labels{
			"version":   cmp.Or(version, "unknown"),
			"goversion": goVersion,
		},
	}, func() float64 { return 1 })
}
