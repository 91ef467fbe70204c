package proxy

import (
	"cmp"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// Config is what a Proxy is made with. Its zero value is good.
type Config struct {
	// Dial connects to endpoints; nil is TCP.
	Dial Dial
	// Trusted are the peers that are believed what they say of the requests that
	// they forward: in X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host,
	// X-Forwarded-Port and Forwarded.
	Trusted Prefixes
	// Clients are the bounds that no rule sets.
	Clients ClientLimits
	// MaxBufferBytes bounds the bytes in the buffers of all connections: while
	// they are more, requests that begin are turned away. 0 is no bound. What a
	// connection and its request take beside that is the same for all of them,
	// some 8 KiB and a stack, and bounded by how many connections there may be.
	MaxBufferBytes int64
	// KeepBytes bounds the memory for bodies that are kept to be sent again, of
	// all requests together; 0: DefaultKeepBytes.
	KeepBytes int64
	// Shared has the buckets of rate limits that are for all replicas together;
	// nil: each replica has its part of them.
	Shared limit.Shared
	Log    logr.Logger
}

// ClientLimits bound what a client can take before a rule has a say. A field
// that is 0 has its default.
type ClientLimits struct {
	// HeaderTimeout bounds the reading of a request's head from its first byte;
	// on a new connection from its start, with everything before it. 10 s.
	HeaderTimeout time.Duration
	// KeepAliveTimeout is how long a connection may be idle between two
	// requests. 75 s.
	KeepAliveTimeout time.Duration
	// WriteTimeout bounds the time for which a peer, client or endpoint, takes
	// nothing of what is written to it. 60 s.
	WriteTimeout time.Duration
	// MaxHeaderBytes of a request's head as a whole; over it 431. 64 KiB, which
	// is also the most there can be.
	MaxHeaderBytes int
	// MaxHeaderFields of a request; over it 431. 100.
	MaxHeaderFields int
	// MaxRequestLine in bytes; over it 414. 8 KiB.
	MaxRequestLine int
}

// WithDefaults returns the limits with those filled in that are 0.
func (l ClientLimits) WithDefaults() ClientLimits {
	return ClientLimits{
		HeaderTimeout:    cmp.Or(l.HeaderTimeout, 10*time.Second),
		KeepAliveTimeout: cmp.Or(l.KeepAliveTimeout, 75*time.Second),
		WriteTimeout:     cmp.Or(l.WriteTimeout, 60*time.Second),
		MaxHeaderBytes:   min(cmp.Or(l.MaxHeaderBytes, MaxHeaderBytes), MaxHeaderBytes),
		MaxHeaderFields:  cmp.Or(l.MaxHeaderFields, 100),
		MaxRequestLine:   cmp.Or(l.MaxRequestLine, 8<<10),
	}
}

// DefaultKeepBytes is Config.KeepBytes when that is 0.
const DefaultKeepBytes = 64 << 20

// MaxHeaderBytes is the largest head that there is a buffer for.
const MaxHeaderBytes = 64 << 10
