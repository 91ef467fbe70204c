package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/telemetry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// Config is every setting of the data plane. Its zero value listens nowhere and
// logs nothing.
type Config struct {
	// HTTP and Admin are the addresses to listen on (":8080"); "" is off.
	HTTP, Admin string
	// ReusePort lets other processes listen on the HTTP address, too: see
	// server.Listen.
	ReusePort bool
	// MaxConnections bounds the clients' connections of all listeners; 0 takes
	// what the limit of file descriptors and MaxMemory allow: see
	// server.Connections.
	// MaxConnectionsPerIP bounds those of one address, except the trusted
	// proxies'; 0 is no bound.
	MaxConnections, MaxConnectionsPerIP int
	// MaxMemory is what the process may take, in bytes; 0 is not known.
	MaxMemory int64
	// ProxyProtocol are the peers whose connections begin with a PROXY header.
	ProxyProtocol proxy.Prefixes
	// TrustedProxies are the peers whose X-Forwarded-* and Forwarded are
	// believed.
	TrustedProxies proxy.Prefixes
	// Clients are the bounds on clients that no rule sets.
	Clients proxy.ClientLimits
	// MaxBufferBytes bounds the bytes in the buffers of all connections; 0 is no
	// bound: see proxy.Config.
	MaxBufferBytes int64
	// KeepBytes bounds the memory for bodies that are kept to be sent again; 0:
	// proxy.DefaultKeepBytes.
	KeepBytes int64
	// AdminTokens returns the bearer tokens for everything on the admin port but
	// the probes: see admin.Config. nil: no token is asked for.
	AdminTokens func() []string
	// Shared is the Redis that counts for the rate limits of all replicas
	// together; without an address each replica has its part of them. Its log is
	// that of the Config.
	Shared shared.Config
	// Pprof serves /debug/pprof on the admin port.
	Pprof bool
	// DrainDelay is how long new connections are still accepted when Run's
	// context has ended; DrainTimeout is how long requests may go on after it,
	// DrainUpgradedTimeout how long upgraded connections may.
	DrainDelay, DrainTimeout, DrainUpgradedTimeout time.Duration
	// Version of the program, for the metric ferrum_build_info.
	Version string
	// AccessLog says what is written of requests, and where.
	AccessLog telemetry.AccessLogConfig
	// Gatherers give metrics to serve together with the data plane's.
	Gatherers []telemetry.Gatherer
	// Log receives what happens outside of requests.
	Log logr.Logger
	// Dial connects to endpoints; nil is TCP.
	Dial proxy.Dial
	// OnTransition is told of every change in what is known of an endpoint, from
	// any goroutine. It must not block. nil: nobody is.
	OnTransition func(plan.Transition)
	// RequireHealthyPools: the process is not ready before each pool with active
	// checks has had an endpoint that passes them.
	RequireHealthyPools bool
}

// Engine is the data plane. Make one with New.
type Engine struct {
	config    Config
	telemetry *telemetry.Telemetry
	registry  *upstream.Registry
	proxy     *proxy.Proxy
	server    *server.Server
	shared    *shared.Store // nil: none is configured

	applying   sync.Mutex
	generation uint64

	listening atomic.Bool
	warm      atomic.Bool // the checks have been waited for
	drain     atomic.Pointer[server.DrainTimes]
	addrMu    sync.Mutex
	addrs     map[string]net.Addr
}

// New returns an Engine that listens nowhere yet. It has no table, so it would
// answer every request with 503. It panics on an AccessLog that its Validate
// refuses.
func New(c Config) *Engine {
	e := &Engine{
		config: c,
		telemetry: telemetry.New(telemetry.Config{
			AccessLog: c.AccessLog, Version: c.Version, Gatherers: c.Gatherers, Log: c.Log,
		}),
		addrs: make(map[string]net.Addr),
	}
	e.setDrain(c)
	e.registry = e.newRegistry()
	e.proxy = proxy.New(e.telemetry, proxy.Config{Dial: c.Dial, Trusted: c.TrustedProxies, Clients: c.Clients, MaxBufferBytes: c.MaxBufferBytes, KeepBytes: c.KeepBytes, Shared: e.share(), Log: c.Log})
	e.server = server.New(e.proxy, e.serverConfig(c))
	e.registerMetrics()
	return e
}

// share returns the counter of rate limits for all replicas, or nil.
func (e *Engine) share() limit.Shared {
	c := e.config.Shared
	if c.Address == "" {
		return nil
	}
	c.Log = e.config.Log
	e.shared = shared.New(c)
	return e.shared
}

// Apply makes p the plan that is served: all requests that begin after it has
// returned see it, none sees a part of it. A plan that cannot be compiled is
// refused with an error and changes nothing. Applying is serialized.
func (e *Engine) Apply(p plan.Plan) error {
	e.applying.Lock()
	defer e.applying.Unlock()
	began := time.Now()
	before := e.proxy.Table()
	e.registry.Prepare(p.Pools)
	t, err := proxy.Compile(p, e.registry, e.telemetry, before)
	if err == nil {
		if e.generation++; e.generation == 1 {
			e.registry.AwaitChecks()
		}
		e.proxy.Publish(t)
	} else {
		if t = before; t == nil {
			t = &proxy.Table{}
		}
		e.registry.Prepare(t.Plan().Pools) // takes back what was prepared for the refused one
	}
	e.registry.Retire(t.Plan().Pools)
	e.telemetry.Retain(t.RuleIDs())
	e.telemetry.Applied(telemetry.Apply{Plan: p, Generation: e.generation, Took: time.Since(began), Err: err})
	return err
}

// SetReplicas says among how many processes like this one the limits that are for
// all of them are divided. It is 1 until it is called.
func (e *Engine) SetReplicas(n int) {
	if n = max(n, 1); n != e.proxy.Replicas() {
		e.config.Log.Info("limits for all replicas are divided anew", "replicas", n)
		e.proxy.SetReplicas(n)
	}
}

// Ready returns nil when requests are served as planned: there is a table, the
// listeners are open, the first active checks have been made, and the process is
// not about to go. Pools that come later are not waited for.
func (e *Engine) Ready() error {
	switch {
	case e.proxy.Table() == nil:
		return errors.New("no routes have been loaded yet")
	case !e.listening.Load():
		return errors.New("not listening yet")
	case e.server.Draining():
		return errors.New("shutting down")
	}
	return e.checked()
}

// Run listens and serves until ctx ends, and drains then: see
// server.Server.Drain. It returns an error when it cannot listen, and a
// *CutError, maybe joined with others, when the drain had to cut something.
func (e *Engine) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed, err := e.open(background)
	if err != nil {
		return err
	}
	swept := e.sweep(background)
	select {
	case <-ctx.Done():
	case err := <-failed:
		stop()
		<-swept
		return err
	}
	times := *e.drain.Load()
	e.config.Log.Info("draining", "delay", times.Delay.String(), "timeout", times.Timeout.String(),
		"upgradedTimeout", times.Upgraded.String())
	cut := e.server.Drain(background, times)
	stop()
	<-swept
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), logFlushTimeout)
	defer cancel()
	err = e.telemetry.Close(flush)
	if cut != (server.Cut{}) {
		err = errors.Join(err, &CutError{cut})
	}
	return err
}

// sweep does what has to be done beside requests until ctx ends; then it closes
// done.
func (e *Engine) sweep(ctx context.Context) (done <-chan struct{}) {
	swept := make(chan struct{})
	var sweepers sync.WaitGroup
	sweepers.Go(func() { e.registry.Run(ctx) })
	if e.shared != nil {
		sweepers.Go(func() { e.shared.Run(ctx) })
	}
	go func() {
		defer close(swept)
		sweepers.Wait()
	}()
	return swept
}

// CutError says that the times of a drain were up before everything had ended.
type CutError struct{ server.Cut }

func (e *CutError) Error() string {
	return fmt.Sprintf("the drain cut %d requests and %d upgraded connections", e.Requests, e.Upgraded)
}

// logFlushTimeout bounds the wait for the reader of the access log at the end.
const logFlushTimeout = 2 * time.Second

// Addr returns the address that the listener named "http" or "admin" is bound
// to, or nil when it is not listening.
func (e *Engine) Addr(name string) net.Addr {
	e.addrMu.Lock()
	defer e.addrMu.Unlock()
	return e.addrs[name]
}

// Serve accepts connections from a listener of the caller's, until Run drains.
func (e *Engine) Serve(l net.Listener) { e.server.Serve(l) }

func (e *Engine) registerMetrics() {
	s := &e.server.Stats
	e.telemetry.RegisterCounter("ferrum_connections_accepted_total", "Client connections accepted.",
		func() float64 { return float64(s.Accepted.Load()) })
	e.telemetry.RegisterCounter("ferrum_accept_errors_total", "Failures to accept a client connection.",
		func() float64 { return float64(s.AcceptErrors.Load()) })
	e.telemetry.RegisterUpstreams(e.upstreamStats)
	e.telemetry.RegisterGauge("ferrum_buffer_bytes", "Bytes in the buffers of connections that have something to do.",
		func() float64 { return float64(http1.HeldBytes()) })
	e.telemetry.RegisterGauge("ferrum_connections_open", "Client connections that are open.",
		func() float64 { return float64(s.Open.Load()) })
	e.telemetry.RegisterGauge("ferrum_replicas", "Ready replicas of the proxy, among which limits with scope Cluster are divided.",
		func() float64 { return float64(e.proxy.Replicas()) })
	e.telemetry.RegisterGauge("ferrum_retry_buffer_bytes", "Bytes of memory for request bodies that are kept to be sent again.",
		func() float64 { used, _, _ := e.proxy.KeptBytes(); return float64(used) })
	e.telemetry.RegisterGauge("ferrum_rate_limit_keys", "Keys that all rate limits together have room for, beside the first 64 of each.",
		func() float64 { return float64(e.proxy.RateKeys()) })
	if e.shared != nil {
		e.registerShared(&e.shared.Stats)
	}
	for why, name := range server.Refusals {
		refused := &s.Refused[why]
		e.telemetry.RegisterCounter("ferrum_connections_refused_total", "Client connections turned away.",
			func() float64 { return float64(refused.Load()) }, telemetry.Label{Name: "reason", Value: name})
	}
}

func (e *Engine) registerShared(s *shared.Stats) {
	e.telemetry.RegisterGauge("ferrum_rate_limit_shared_up", "1 while rate limits with scope Cluster are counted in Redis, 0 while they are divided because it cannot be reached.",
		func() float64 {
			if e.shared.Up() {
				return 1
			}
			return 0
		})
	for by, n := range map[string]*atomic.Uint64{"redis": &s.Asked, "memory": &s.Remembered, "fallback": &s.Unknown} {
		e.telemetry.RegisterCounter("ferrum_rate_limit_shared_decisions_total", "Decisions about requests by rate limits with scope Cluster.",
			func() float64 { return float64(n.Load()) }, telemetry.Label{Name: "by", Value: by})
	}
	e.telemetry.RegisterCounter("ferrum_rate_limit_shared_errors_total", "Calls of Redis that failed.",
		func() float64 { return float64(s.Errors.Load()) })
}
