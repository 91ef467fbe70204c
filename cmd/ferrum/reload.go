package main

import (
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// liveSettings are the keys of what a running process can change. All others are
// read at the start: they have sockets, buffers or the meaning of requests under
// way behind them.
var liveSettings = []string{"drain.delay", "drain.timeout", "drain.upgradedTimeout", "log.level", "accessLog.sample"}

// reloader brings what the configuration file says by now into a running
// process.
type reloader struct {
	running *Config                 // what is in force
	again   func() (*Config, error) // reads file and flags once more; nil: there is no file
	level   *slog.LevelVar
	engine  interface {
		SetDrain(server.DrainTimes)
		SetAccessLogSample(int)
	}
	log logr.Logger
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
		r.log.Error(err, "configuration file refused; what was in force stays")
		return
	}
	changed, restart := []string{}, []string{}
	wanted := next.settings()
	for i, s := range r.running.settings() {
		switch {
		case s.value.String() == wanted[i].value.String():
		case slices.Contains(liveSettings, s.key):
			changed = append(changed, s.key)
		default:
			restart = append(restart, s.key)
		}
	}
	r.running.Drain, r.running.Log.Level, r.running.AccessLog.Sample = next.Drain, next.Log.Level, next.AccessLog.Sample
	r.engine.SetDrain(drainTimes(next))
	r.engine.SetAccessLogSample(next.AccessLog.Sample)
	r.level.Set(next.Log.Level)
	r.log.Info("configuration file read again", "changed", changed, "needRestart", restart)
}

func drainTimes(c *Config) server.DrainTimes {
	return server.DrainTimes{Delay: c.Drain.Delay, Timeout: c.Drain.Timeout, Upgraded: c.Drain.UpgradedTimeout}
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
