package main

import (
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
)

// liveSettings are the keys of what a running process can change. All others are
// read at the start: they have sockets, files or the watches of a cluster behind
// them.
var liveSettings = []string{
	"http.maxConnections", "http.maxConnectionsPerIP", "http.headerTimeout", "http.keepAliveTimeout", "http.writeTimeout",
	"http.maxHeaderBytes", "http.maxHeaderFields", "http.maxRequestLineBytes", "http.maxBufferBytes",
	"http.proxyProtocol.trustedCIDRs", "forwarded.trustedCIDRs", "buffers.maxBytes",
	"drain.delay", "drain.timeout", "drain.upgradedTimeout", "log.level", "accessLog.sample",
}

// fileReads counts how the configuration file was read again.
type fileReads struct {
	registry  *prometheus.Registry
	good, bad prometheus.Counter
	refused   prometheus.Gauge
}

func newFileReads() *fileReads {
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ferrum_config_file_reads_total",
		Help: "Times that SIGHUP had the configuration file read again, by result.",
	}, []string{"result"})
	f := &fileReads{
		registry: prometheus.NewRegistry(),
		good:     reads.WithLabelValues("success"), bad: reads.WithLabelValues("error"),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ferrum_config_file_refused",
			Help: "1 while the configuration file was refused when it was read last, so that what was in force before still is.",
		}),
	}
	f.registry.MustRegister(reads, f.refused)
	return f
}

// reloader brings what the configuration file says by now into a running
// process.
type reloader struct {
	running Config                  // what is in force
	again   func() (*Config, error) // reads file and flags once more; nil: there is no file
	level   *slog.LevelVar
	engine  interface{ Reconfigure(c dataplane.Config) }
	reads   *fileReads
	log     logr.Logger
}

// reload applies what changed and can be changed, and names what cannot. A file
// that is not good as a whole changes nothing.
func (r *reloader) reload() {
	if r.again == nil {
		r.log.Info("there is no configuration file to read again: --config was not given")
		return
	}
	next, err := r.again()
	if err != nil {
		r.reads.bad.Inc()
		r.reads.refused.Set(1)
		r.log.Error(err, "configuration file refused; what was in force stays")
		return
	}
	r.reads.good.Inc()
	r.reads.refused.Set(0)
	changed, restart := []string{}, []string{}
	wanted := next.settings()
	for i, s := range r.running.settings() {
		switch want := wanted[i].value.String(); {
		case s.value.String() == want:
		case !slices.Contains(liveSettings, s.key):
			restart = append(restart, s.key)
		default:
			if err := s.value.Set(want); err != nil {
				r.log.Error(err, "a setting cannot be changed; it stays", "setting", s.key)
				continue
			}
			changed = append(changed, s.key)
		}
	}
	r.engine.Reconfigure(engineConfig(&r.running))
	r.level.Set(r.running.Log.Level)
	r.log.Info("configuration file read again", "changed", changed, "needRestart", restart)
}

// onHangups calls do for each SIGHUP, one after the other, until release.
func onHangups(do func()) (release func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	released, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-signals:
				do()
			case <-released:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(released)
		<-done
	}
}
