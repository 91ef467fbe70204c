package dataplane

import (
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// Reconfigure makes these fields of c count from now on: MaxConnections,
// MaxConnectionsPerIP, ProxyProtocol, TrustedProxies, Clients, MaxBufferBytes,
// KeepBytes, the times of a drain that has not begun, and AccessLog.Sample, which
// is at least 1. What server.Server.Reconfigure and proxy.Proxy.Reconfigure say of
// open connections holds. The other fields are not looked at. It is not to be
// called by several goroutines at once.
func (e *Engine) Reconfigure(c Config) {
	e.setDrain(c)
	e.telemetry.SetSample(c.AccessLog.Sample)
	e.proxy.Reconfigure(proxy.Config{Trusted: c.TrustedProxies, Clients: c.Clients, MaxBufferBytes: c.MaxBufferBytes, KeepBytes: c.KeepBytes})
	e.server.Reconfigure(e.serverConfig(c))
}

func (e *Engine) setDrain(c Config) {
	e.drain.Store(&server.DrainTimes{Delay: c.DrainDelay, Timeout: c.DrainTimeout, Upgraded: c.DrainUpgradedTimeout})
}

func (e *Engine) serverConfig(c Config) server.Config {
	return server.Config{
		MaxConnections: e.maxConnections(c.MaxConnections), MaxConnectionsPerIP: c.MaxConnectionsPerIP, PerIPExempt: c.TrustedProxies,
		ProxyProtocol: c.ProxyProtocol, HeaderTimeout: c.Clients.WithDefaults().HeaderTimeout, Log: c.Log,
	}
}

// maxConnections returns the bound that the file descriptors and the memory set,
// unless there is a configured one.
func (e *Engine) maxConnections(configured int) int {
	descriptors := server.Descriptors()
	if configured == 0 {
		return server.Connections(descriptors, e.config.MaxMemory)
	}
	fit := server.ConnectionsFor(descriptors)
	if fit > 0 && configured > fit {
		e.config.Log.Info("more connections are allowed than there are file descriptors for; raise the limit of open files",
			"maxConnections", configured, "descriptors", descriptors, "enoughFor", fit)
	}
	return configured
}
