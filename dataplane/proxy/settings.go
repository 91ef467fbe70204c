package proxy

import (
	"cmp"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// settings are what can change of a Config while the proxy serves. They are
// published whole; a connection has those that were in force when its last
// request began, and so a request has the same ones to its end.
type settings struct {
	trusted Prefixes
	clients ClientLimits
	heads   http1.Limits
	buffers int64 // Config.MaxBufferBytes
}

// Reconfigure makes Trusted, Clients, MaxBufferBytes and KeepBytes of c count
// for all requests that begin from now on, also those of connections that are
// open. A timeout that runs already is not changed, and WriteTimeout is that of
// connections that begin from now on. What else c says is not looked at.
func (p *Proxy) Reconfigure(c Config) {
	clients := c.Clients.WithDefaults()
	p.settings.Store(&settings{
		trusted: c.Trusted,
		clients: clients,
		heads: http1.Limits{
			MaxLine: clients.MaxRequestLine, MaxHeadBytes: clients.MaxHeaderBytes, MaxFields: clients.MaxHeaderFields, MaxHeld: c.MaxBufferBytes,
		},
		buffers: c.MaxBufferBytes,
	})
	p.kept.SetLimit(cmp.Or(c.KeepBytes, DefaultKeepBytes))
}

// adopt takes the settings that are in force.
func (c *client) adopt() {
	if s := c.p.settings.Load(); s != c.settings {
		c.settings = s
		c.trusted = s.trusted.Has(c.peer.Addr())
	}
}
