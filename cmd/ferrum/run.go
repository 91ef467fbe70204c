package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
)

func newRunCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve, from a cluster or from manifest files",
		Long: `run serves HTTP by the objects of a Kubernetes cluster (in a Pod, or with
--kubeconfig) or of files (--manifests).

Each flag is a key of the configuration file, too; a flag that is given wins.
The log goes to standard error, the access log to standard output. On SIGTERM or
SIGINT the process stops being ready, finishes what it has and exits with 0, or
with 1 when it had to cut something; a second signal ends it at once with 1. On
SIGHUP it reads the configuration file again.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (YAML); every setting of the process")
	DefaultConfig().addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(file, cmd.Flags())
		if err != nil {
			return &exitError{exitUsage, err}
		}
		var again func() (*Config, error)
		if file != "" {
			again = func() (*Config, error) { return loadConfig(file, cmd.Flags()) }
		}
		return run(cmd.Context(), c, again, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// run is the process, from its settings to its exit code. again reads the
// settings once more; nil: there is no file.
func run(ctx context.Context, c *Config, again func() (*Config, error), stdout, stderr io.Writer) error {
	// Of a log that nobody reads any more lines are lost, and nothing else.
	signal.Ignore(syscall.SIGPIPE)
	level := new(slog.LevelVar)
	level.Set(c.Log.Level)
	log := newLogger(stderr, c.Log.Format, level)
	adoptLibraries(log)
	limitMemory(log)

	tokens, err := adminTokens(c.Admin.TokenFile, log)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	redis, err := c.Redis.connection()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	transitions := controllers.NewTransitions()
	onTransition := transitions.OnTransition
	if c.Manifests != "" {
		onTransition = nil // there is nobody to tell
	}
	reads := newFileReads()
	settings := engineConfig(c)
	settings.AdminTokens = tokens
	settings.OnTransition = onTransition
	settings.Shared = redis
	settings.Version = currentVersion()
	settings.Log = log
	settings.AccessLog.Out = stdout
	settings.Gatherers = []telemetry.Gatherer{crmetrics.Registry, reads.registry}
	engine := dataplane.New(settings)
	source, err := newSource(c, engine, tokens, transitions, log)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	ctx, release := onSignals(ctx, log, os.Exit)
	defer release()
	defer onHangups((&reloader{running: *c, again: again, level: level, engine: engine, reads: reads, log: log}).reload)()
	err = supervise(ctx, log, engine.Run, source)
	var cut *dataplane.CutError
	switch {
	case errors.As(err, &cut):
		log.Error(err, "stopped; not everything had ended", "cutRequests", cut.Requests, "cutUpgraded", cut.Upgraded)
		return failed(nil)
	case err != nil:
		return failed(err)
	}
	log.Info("stopped", "cutRequests", 0, "cutUpgraded", 0)
	return nil
}

// engineConfig is what the settings say of the data plane.
func engineConfig(c *Config) dataplane.Config {
	return dataplane.Config{
		HTTP:                 c.HTTP.Address,
		ReusePort:            c.HTTP.ReusePort,
		MaxConnections:       c.HTTP.MaxConnections,
		MaxConnectionsPerIP:  c.HTTP.MaxConnectionsPerIP,
		ProxyProtocol:        c.HTTP.ProxyProtocol.TrustedCIDRs,
		TrustedProxies:       c.Forwarded.TrustedCIDRs,
		Clients:              clientLimits(c),
		MaxMemory:            maxMemory(),
		MaxBufferBytes:       bufferBytes(c, maxMemory()),
		KeepBytes:            int64(c.Buffers.MaxBytes),
		Admin:                c.Admin.Address,
		Pprof:                c.Admin.Pprof,
		DrainDelay:           c.Drain.Delay,
		DrainTimeout:         c.Drain.Timeout,
		DrainUpgradedTimeout: c.Drain.UpgradedTimeout,
		RequireHealthyPools:  c.Health.RequireHealthyPools,
		AccessLog:            telemetry.AccessLogConfig{Format: c.AccessLog.Format, Sample: c.AccessLog.Sample},
	}
}

func clientLimits(c *Config) proxy.ClientLimits {
	h := &c.HTTP
	return proxy.ClientLimits{
		HeaderTimeout: h.HeaderTimeout, KeepAliveTimeout: h.KeepAliveTimeout, WriteTimeout: h.WriteTimeout,
		MaxHeaderBytes: h.MaxHeaderBytes, MaxHeaderFields: h.MaxHeaderFields, MaxRequestLine: h.MaxRequestLineBytes,
	}
}

// newSource returns what feeds the engine until its context ends.
func newSource(c *Config, engine *dataplane.Engine, tokens func() []string, transitions *controllers.Transitions, log logr.Logger) (func(context.Context) error, error) {
	if c.Manifests != "" {
		if _, err := os.Stat(c.Manifests); err != nil {
			return nil, fmt.Errorf("manifests: %w", err)
		}
		return newFileSource(c, engine.Apply, log).run, nil
	}
	return clusterSource(c, engine, tokens, transitions, log)
}

// bufferBytes is the bound on the bytes in buffers: as set, else half of the
// memory that the process may have, else (0) none. The other half is for what stands
// behind a request beside its buffers, and for what the collector has not got to.
func bufferBytes(c *Config, memory int64) int64 {
	if c.HTTP.MaxBufferBytes > 0 {
		return int64(c.HTTP.MaxBufferBytes)
	}
	return memory / 2
}

// maxMemory is the limit that limitMemory found or the user set; 0 is none.
func maxMemory() int64 {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit
	}
	return 0
}

// limitMemory tells the garbage collector of the container's limit, unless the
// user did with GOMEMLIMIT, so that a full heap is collected rather than killed.
func limitMemory(log logr.Logger) {
	if maxMemory() != 0 {
		return
	}
	if limit, ok := memoryLimit(os.DirFS("/")); ok {
		debug.SetMemoryLimit(limit)
		log.V(1).Info("memory limit taken from the cgroup", "bytes", limit)
	}
}
