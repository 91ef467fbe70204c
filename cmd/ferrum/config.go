package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// Config is every setting of the process. What belongs to a route, a Service or
// a team is no setting of the process: it is in the API's three kinds.
//
// Each field is a row of settings(), which gives its key in the configuration
// file, its flag and its text in the reference.
type Config struct {
	// Manifests is a directory or file that is served instead of a cluster's
	// objects; "" = a cluster.
	Manifests string
	// Kubeconfig says how the API server is reached; "" = from inside a Pod.
	Kubeconfig string
	// WatchNamespaces are the namespaces whose objects count; none = all.
	WatchNamespaces []string
	// Classes are the names of the ProxyClasses that count; none = all.
	Classes []string

	HTTP struct {
		// Address to listen on for HTTP; "" = off.
		Address string
		// ReusePort lets other processes listen there, too.
		ReusePort bool
		// MaxConnections of all clients; 0 = what the file descriptors allow.
		MaxConnections int
		// MaxConnectionsPerIP are those of one client address; 0 = no limit.
		MaxConnectionsPerIP int
		// HeaderTimeout of a request's head, KeepAliveTimeout between two
		// requests, WriteTimeout of a peer that takes nothing.
		HeaderTimeout, KeepAliveTimeout, WriteTimeout time.Duration
		// MaxHeaderBytes and MaxHeaderFields of a request's head,
		// MaxRequestLineBytes of its first line.
		MaxHeaderBytes, MaxHeaderFields, MaxRequestLineBytes int
		// MaxBufferBytes of all connections; 0 = half of the memory limit.
		MaxBufferBytes int
		ProxyProtocol  struct {
			// TrustedCIDRs are the peers whose connections begin with a PROXY
			// header; none = off.
			TrustedCIDRs []netip.Prefix
		}
	}
	Forwarded struct {
		// TrustedCIDRs are the proxies that are believed what they say of their
		// clients.
		TrustedCIDRs []netip.Prefix
	}
	Admin struct {
		// Address to listen on for probes, metrics and debug pages; "" = off.
		Address string
		// TokenFile holds the bearer token of everything but the probes; "" =
		// no token is asked for. It may change: see adminToken.
		TokenFile string
		// Pprof serves /debug/pprof.
		Pprof bool
	}
	Topology struct {
		// Zone and Node are where the process runs, for the topology hints of
		// EndpointSlices; "" = not known, so hints say nothing.
		Zone, Node string
	}
	Replicas struct {
		// Service whose ready endpoints are the replicas of the proxy, as
		// namespace/name; "" = there is this one.
		Service string
	}
	Redis   redisConfig
	Buffers struct {
		// MaxBytes of memory for request bodies that are kept to be sent again.
		MaxBytes int
	}
	Drain struct {
		// Delay between the end of readiness and the close of the listeners.
		Delay time.Duration
		// Timeout of the requests in flight after that.
		Timeout time.Duration
		// UpgradedTimeout is that of upgraded connections.
		UpgradedTimeout time.Duration
	}
	Health struct {
		// RequireHealthyPools keeps the process unready until each pool with
		// active checks has had an endpoint that passes them.
		RequireHealthyPools bool
	}
	Snapshot struct {
		// Directory that keeps the last good plan; "" = none is kept.
		Directory string
	}
	Log struct {
		// Format is json or text.
		Format string
		// Level is the lowest level that is written.
		Level slog.Level
	}
	AccessLog struct {
		// Format is off, json or text.
		Format string
		// Sample n writes one of n requests that ended well, and all others; at
		// least 1.
		Sample int
	}
}

// DefaultConfig returns the settings of a process without flags and file.
func DefaultConfig() *Config {
	c := &Config{}
	c.HTTP.Address = ":8080"
	c.HTTP.ReusePort = true
	clients := proxy.ClientLimits{}.WithDefaults()
	c.HTTP.HeaderTimeout, c.HTTP.KeepAliveTimeout, c.HTTP.WriteTimeout = clients.HeaderTimeout, clients.KeepAliveTimeout, clients.WriteTimeout
	c.HTTP.MaxHeaderBytes, c.HTTP.MaxHeaderFields, c.HTTP.MaxRequestLineBytes = clients.MaxHeaderBytes, clients.MaxHeaderFields, clients.MaxRequestLine
	c.Admin.Address = ":9090"
	c.Redis.Prefix, c.Redis.Timeout = shared.DefaultPrefix, shared.DefaultTimeout
	c.Buffers.MaxBytes = proxy.DefaultKeepBytes
	c.Drain.Delay = 5 * time.Second
	c.Drain.Timeout = 30 * time.Second
	c.Drain.UpgradedTimeout = 60 * time.Second
	c.Log.Format = "json"
	c.Log.Level = slog.LevelInfo
	c.AccessLog.Format = "json"
	c.AccessLog.Sample = 1
	return c
}

// setting is a row of the configuration's reference.
type setting struct {
	key   string // path in the file
	flag  string // "" = in the file only
	doc   string // a sentence for --help and docs/operations.md
	value pflag.Value
}

// settings returns all settings of c, bound to its fields.
func (c *Config) settings() []setting {
	return []setting{
		{"manifests", "manifests", "directory or file of objects to serve without a cluster; read again on every change", (*text)(&c.Manifests)},
		{"kubeconfig", "kubeconfig", "kubeconfig file of the cluster; empty = the Pod's service account", (*text)(&c.Kubeconfig)},
		{"watchNamespaces", "watch-namespaces", "namespaces whose objects count in a cluster, and no others; empty = all", &names{&c.WatchNamespaces, "namespace", validation.IsDNS1123Label}},
		{"classes", "", "names of the ProxyClasses that count in a cluster, with their routes, and no others, so that several installations do not serve the same ones; empty = all", &names{&c.Classes, "ProxyClass", validation.IsDNS1123Subdomain}},
		{"http.address", "http", `address of the HTTP listener; "" = off`, (*address)(&c.HTTP.Address)},
		{"http.reusePort", "http-reuse-port", "let another process of the same user listen on the same port, to take over while this one drains", (*toggle)(&c.HTTP.ReusePort)},
		{"http.maxConnections", "max-connections", "client connections at the same time; more get 503. 0 = a quarter of the limit of open files, and one for every 32 KiB of the memory limit", (*limit)(&c.HTTP.MaxConnections)},
		{"http.maxConnectionsPerIP", "max-connections-per-ip", "of these, from the same address (trusted proxies excepted); 0 = no limit", (*limit)(&c.HTTP.MaxConnectionsPerIP)},
		{"http.headerTimeout", "", "time that a client has for the head of a request; on a new connection from its start", (*duration)(&c.HTTP.HeaderTimeout)},
		{"http.keepAliveTimeout", "", "time between two requests after which a client's connection is closed", (*duration)(&c.HTTP.KeepAliveTimeout)},
		{"http.writeTimeout", "", "time in which a client or endpoint has to take something of what is written to it", (*duration)(&c.HTTP.WriteTimeout)},
		{"http.maxHeaderBytes", "", "bytes of a request's head, at most 65536; more get 431", (*count)(&c.HTTP.MaxHeaderBytes)},
		{"http.maxHeaderFields", "", "fields of a request's head; more get 431", (*count)(&c.HTTP.MaxHeaderFields)},
		{"http.maxRequestLineBytes", "", "bytes of a request's first line; more get 414", (*count)(&c.HTTP.MaxRequestLineBytes)},
		{"http.maxBufferBytes", "", "bytes in the buffers of all connections; while there are more, requests that begin get 503. 0 = half of the memory limit, if there is one", (*limit)(&c.HTTP.MaxBufferBytes)},
		{"http.proxyProtocol.trustedCIDRs", "proxy-protocol-cidrs", "load balancers whose connections begin with a PROXY header, version 1 or 2; from here it is required", &cidrs{to: &c.HTTP.ProxyProtocol.TrustedCIDRs}},
		{"forwarded.trustedCIDRs", "forwarded-cidrs", "proxies whose X-Forwarded-* and Forwarded are believed; those of others are overwritten", &cidrs{to: &c.Forwarded.TrustedCIDRs}},
		{"admin.address", "admin", `address of /livez, /readyz, /metrics and /debug; "" = off`, (*address)(&c.Admin.Address)},
		{"admin.tokenFile", "", "file with the bearer token that everything but the probes asks for; read anew for each request", (*text)(&c.Admin.TokenFile)},
		{"admin.pprof", "", "serve /debug/pprof", (*toggle)(&c.Admin.Pprof)},
		{"topology.zone", "topology-zone", "zone that the process runs in, for topology hints; empty = not known", (*text)(&c.Topology.Zone)},
		{"topology.node", "topology-node", "node that the process runs on, for topology hints; empty = not known", (*text)(&c.Topology.Node)},
		{"replicas.service", "replicas-service", "namespace/name of the proxy's own Service: its ready endpoints share rate limits with scope Cluster, and a route is Programmed when all of them serve it; empty = each replica speaks for itself", (*text)(&c.Replicas.Service)},
		{"redis.address", "", "host:port of the Redis that counts for rate limits with scope Cluster; empty = each replica lets its part through", (*remote)(&c.Redis.Address)},
		{"redis.username", "", "user at Redis; empty = the default one", (*text)(&c.Redis.Username)},
		{"redis.passwordFile", "", "file with the password at Redis, read at each new connection; empty = FERRUM_REDIS_PASSWORD of the environment, if it is set", (*text)(&c.Redis.PasswordFile)},
		{"redis.database", "", "number of the database", (*limit)(&c.Redis.Database)},
		{"redis.prefix", "", "start of all keys: proxies with the same one count together", (*text)(&c.Redis.Prefix)},
		{"redis.timeout", "", "longest that a request waits for Redis", (*duration)(&c.Redis.Timeout)},
		{"redis.tls.enabled", "", "reach Redis by TLS; its certificate must be for the host of the address", (*toggle)(&c.Redis.TLS.Enabled)},
		{"redis.tls.caFile", "", "file of the authorities that may have signed it; empty = those of the system", (*text)(&c.Redis.TLS.CAFile)},
		{"redis.tls.certFile", "", "file of the certificate that Redis is shown, read at each new connection; empty = none", (*text)(&c.Redis.TLS.CertFile)},
		{"redis.tls.keyFile", "", "file of its key", (*text)(&c.Redis.TLS.KeyFile)},
		{"buffers.maxBytes", "", "bytes of memory for request bodies that are kept to be sent again; without room a body is sent once", (*count)(&c.Buffers.MaxBytes)},
		{"drain.delay", "drain-delay", "on SIGTERM, how long to go on accepting while not ready", (*duration)(&c.Drain.Delay)},
		{"drain.timeout", "drain-timeout", "after that, how long requests in flight may take", (*duration)(&c.Drain.Timeout)},
		{"drain.upgradedTimeout", "drain-upgraded-timeout", "after the delay, how long upgraded connections such as WebSockets may go on", (*duration)(&c.Drain.UpgradedTimeout)},
		{"health.requireHealthyPools", "", "not ready before every pool with active checks has had an endpoint that passes", (*toggle)(&c.Health.RequireHealthyPools)},
		{"snapshot.directory", "snapshot-directory", "directory that keeps the last good plan for a start at which the API server cannot be reached; empty = off", (*text)(&c.Snapshot.Directory)},
		{"log.format", "log-format", "json or text", &choice{&c.Log.Format, []string{"json", "text"}}},
		{"log.level", "log-level", "error, warn, info or debug", (*level)(&c.Log.Level)},
		{"accessLog.format", "access-log", "off, json or text, on standard output", &choice{&c.AccessLog.Format, []string{"off", "json", "text"}}},
		{"accessLog.sample", "access-log-sample", "log one of N requests that ended well; the others always", (*count)(&c.AccessLog.Sample)},
	}
}

// addFlags adds a flag for each setting that has one, bound to c's fields.
func (c *Config) addFlags(fs *pflag.FlagSet) {
	for _, s := range c.settings() {
		if s.flag != "" {
			fs.Var(s.value, s.flag, s.doc)
		}
	}
}

// loadConfig returns the defaults, overridden by the file (none if file is ""),
// overridden by the flags that were given.
func loadConfig(file string, flags *pflag.FlagSet) (*Config, error) {
	c := DefaultConfig()
	if file != "" {
		if err := readConfigFile(file, c.settings()); err != nil {
			return nil, err
		}
	}
	for _, s := range c.settings() {
		if s.flag == "" || !flags.Changed(s.flag) {
			continue
		}
		if err := s.value.Set(flags.Lookup(s.flag).Value.String()); err != nil {
			return nil, fmt.Errorf("--%s: %w", s.flag, err)
		}
	}
	return c, c.validate()
}

// validate checks what no single setting can.
func (c *Config) validate() error {
	if c.Manifests != "" && c.Kubeconfig != "" {
		return errors.New("manifests and kubeconfig are both set: serve files or a cluster, not both")
	}
	if c.Manifests != "" && len(c.WatchNamespaces) > 0 {
		return errors.New("manifests and watchNamespaces are both set: all objects in the files count")
	}
	if c.Manifests != "" && len(c.Classes) > 0 {
		return errors.New("manifests and classes are both set: all objects in the files count")
	}
	if c.Manifests != "" && c.Snapshot.Directory != "" {
		return errors.New("manifests and snapshot.directory are both set: a snapshot is of a cluster, manifests are there at every start")
	}
	for _, s := range []struct {
		key string
		d   time.Duration
	}{{"headerTimeout", c.HTTP.HeaderTimeout}, {"keepAliveTimeout", c.HTTP.KeepAliveTimeout}, {"writeTimeout", c.HTTP.WriteTimeout}} {
		if s.d == 0 {
			return fmt.Errorf("http.%s is 0: a client could hold its connection for ever", s.key)
		}
	}
	if c.HTTP.MaxHeaderBytes > proxy.MaxHeaderBytes {
		return fmt.Errorf("http.maxHeaderBytes is %d: the most there can be is %d", c.HTTP.MaxHeaderBytes, proxy.MaxHeaderBytes)
	}
	if ns, name, ok := strings.Cut(c.Replicas.Service, "/"); c.Replicas.Service != "" && (!ok || ns == "" || name == "" || strings.Contains(name, "/")) {
		return fmt.Errorf("replicas.service is %q: it must be namespace/name", c.Replicas.Service)
	}
	if err := c.Redis.validate(); err != nil {
		return err
	}
	if c.HTTP.Address == "" && c.Admin.Address == "" {
		return errors.New("http.address and admin.address are both off: nothing would listen")
	}
	return nil
}
