package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

// load runs loadConfig on a file's text (none if "") and a command line.
func load(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	DefaultConfig().addFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "ferrum.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := loadConfig(path, fs)
	return c, err
}

// ranges are address ranges.
func ranges(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

var asValues = cmpopts.EquateComparable(netip.Prefix{})

func TestConfigIsDefaultsThenFileThenFlags(t *testing.T) {
	with := func(change func(*Config)) *Config {
		c := DefaultConfig()
		change(c)
		return c
	}
	for _, tc := range []struct {
		name string
		file string
		args []string
		want *Config
	}{
		{name: "nothing given", want: DefaultConfig()},
		{name: "a file of comments", file: "# nothing\n", want: DefaultConfig()},
		{name: "a section without keys", file: "admin:\n", want: DefaultConfig()},
		{
			name: "file over defaults",
			file: "http: {address: ':80'}\ndrain:\n  delay: 1m30s\n",
			want: with(func(c *Config) { c.HTTP.Address = ":80"; c.Drain.Delay = 90 * time.Second }),
		},
		{
			name: "flag over file, other keys of the file stay",
			file: "http: {address: ':80'}\nlog: {level: debug, format: text}\n",
			args: []string{"--http=:81", "--log-level", "warn"},
			want: with(func(c *Config) { c.HTTP.Address = ":81"; c.Log.Level = slog.LevelWarn; c.Log.Format = "text" }),
		},
		{
			name: "a flag that repeats the default wins over the file",
			file: "http: {address: ':80'}\n",
			args: []string{"--http=:8080"},
			want: DefaultConfig(),
		},
		{
			name: "an empty flag switches off what the file switches on",
			file: "http: {address: ':80'}\n",
			args: []string{"--http="},
			want: with(func(c *Config) { c.HTTP.Address = "" }),
		},
		{
			name: "a list as one word, and a flag that replaces it",
			file: "forwarded: {trustedCIDRs: '10.0.0.0/8, 192.0.2.0/24'}\nhttp: {proxyProtocol: {trustedCIDRs: 10.0.0.0/8}}\n",
			args: []string{"--proxy-protocol-cidrs=192.0.2.0/24"},
			want: with(func(c *Config) {
				c.Forwarded.TrustedCIDRs = ranges("10.0.0.0/8", "192.0.2.0/24")
				c.HTTP.ProxyProtocol.TrustedCIDRs = ranges("192.0.2.0/24")
			}),
		},
		{
			name: "an empty flag empties a list",
			file: "forwarded: {trustedCIDRs: [10.0.0.0/8]}\n",
			args: []string{"--forwarded-cidrs="},
			want: DefaultConfig(),
		},
		{
			name: "every key of the file",
			file: `
manifests: /srv/manifests
kubeconfig: ""
http:
  address: "127.0.0.1:1"
  reusePort: false
  maxConnections: 5
  maxConnectionsPerIP: 3
  proxyProtocol:
    trustedCIDRs: [10.0.0.0/8, "2001:db8::1"]
forwarded: {trustedCIDRs: [192.0.2.0/24]}
admin: {address: "[::1]:2", tokenFile: /token, pprof: true}
topology: {zone: a, node: n1}
redis:
  address: "redis.cache:6379"
  username: me
  passwordFile: /password
  database: 2
  prefix: "mine:"
  timeout: 20ms
  tls: {enabled: true, caFile: /ca, certFile: /cert, keyFile: /key}
drain: {delay: 1s, timeout: 2s, upgradedTimeout: 3s}
snapshot: {directory: ""}
log: {format: text, level: error}
accessLog: {format: "off", sample: 100}
`,
			want: with(func(c *Config) {
				c.Manifests = "/srv/manifests"
				c.HTTP.Address, c.HTTP.ReusePort, c.HTTP.MaxConnections, c.HTTP.MaxConnectionsPerIP = "127.0.0.1:1", false, 5, 3
				c.HTTP.ProxyProtocol.TrustedCIDRs = ranges("10.0.0.0/8", "2001:db8::1/128")
				c.Forwarded.TrustedCIDRs = ranges("192.0.2.0/24")
				c.Admin.Address, c.Admin.TokenFile, c.Admin.Pprof = "[::1]:2", "/token", true
				c.Topology.Zone, c.Topology.Node = "a", "n1"
				c.Redis = redisConfig{
					Address: "redis.cache:6379", Username: "me", PasswordFile: "/password", Database: 2, Prefix: "mine:", Timeout: 20 * time.Millisecond,
				}
				c.Redis.TLS.Enabled, c.Redis.TLS.CAFile, c.Redis.TLS.CertFile, c.Redis.TLS.KeyFile = true, "/ca", "/cert", "/key"
				c.Drain.Delay, c.Drain.Timeout, c.Drain.UpgradedTimeout = time.Second, 2*time.Second, 3*time.Second
				c.Log.Format, c.Log.Level = "text", slog.LevelError
				c.AccessLog.Format, c.AccessLog.Sample = "off", 100
			}),
		},
		{
			name: "namespaces as a list",
			file: "watchNamespaces: [shop, blog]\n",
			want: with(func(c *Config) { c.WatchNamespaces = []string{"blog", "shop"} }),
		},
		{
			name: "classes as a list",
			file: "classes: [edge, a.b]\n",
			want: with(func(c *Config) { c.Classes = []string{"a.b", "edge"} }),
		},
		{
			name: "no namespaces stand for all",
			file: "watchNamespaces: []\n",
			want: DefaultConfig(),
		},
		{
			name: "every flag",
			args: strings.Fields("--kubeconfig k --watch-namespaces b,a,b --http 127.0.0.1:1 --admin :2 --topology-zone a --topology-node n1 --drain-delay 1s --drain-timeout 2s --drain-upgraded-timeout 3s --log-format text --log-level debug --access-log text --access-log-sample 7 --http-reuse-port=false --max-connections 5 --max-connections-per-ip 3 --proxy-protocol-cidrs 10.0.0.0/8 --proxy-protocol-cidrs 2001:db8::1 --forwarded-cidrs 192.0.2.0/24,192.0.2.1"),
			want: with(func(c *Config) {
				c.Kubeconfig = "k"
				c.WatchNamespaces = []string{"a", "b"}
				c.HTTP.Address, c.Admin.Address = "127.0.0.1:1", ":2"
				c.Topology.Zone, c.Topology.Node = "a", "n1"
				c.HTTP.ReusePort, c.HTTP.MaxConnections, c.HTTP.MaxConnectionsPerIP = false, 5, 3
				c.HTTP.ProxyProtocol.TrustedCIDRs = ranges("10.0.0.0/8", "2001:db8::1/128")
				c.Forwarded.TrustedCIDRs = ranges("192.0.2.0/24", "192.0.2.1/32")
				c.Drain.Delay, c.Drain.Timeout, c.Drain.UpgradedTimeout = time.Second, 2*time.Second, 3*time.Second
				c.Log.Format, c.Log.Level = "text", slog.LevelDebug
				c.AccessLog.Format, c.AccessLog.Sample = "text", 7
			}),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := load(t, tc.file, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, asValues); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestConfigErrorsSayWhereAndWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		args       []string
		want       []string // in the error, each
	}{
		{name: "unknown key", file: "drain:\n  delay: 1s\n  grace: 2s\n", want: []string{`ferrum.yaml:3: unknown key "drain.grace"`, "drain has delay, timeout"}},
		{name: "unknown section", file: "admn: {}\n", want: []string{`ferrum.yaml:1: unknown key "admn"`, "the file has manifests, kubeconfig, watchNamespaces, classes, http, forwarded, admin, topology, replicas, redis, buffers, drain, health, snapshot, log, accessLog"}},
		{name: "case counts", file: "admin:\n  tokenfile: x\n", want: []string{`:2: unknown key "admin.tokenfile"`, "tokenFile"}},
		{name: "a key twice", file: "log:\n  level: info\n  level: debug\n", want: []string{`:3: key "log.level" occurs twice`}},
		{name: "all at once", file: "a: 1\nb: 2\n", want: []string{`:1: unknown key "a"`, `:2: unknown key "b"`}},
		{name: "bad duration", file: "drain:\n  delay: soon\n", want: []string{`:2: drain.delay: "soon" is not a duration`}},
		{name: "negative duration", file: "drain: {delay: -1s}\n", want: []string{"negative"}},
		{name: "a number is no duration", file: "drain: {delay: 5}\n", want: []string{`"5" is not a duration`}},
		{name: "bad word", file: "log: {format: xml}\n", want: []string{`log.format: "xml" is not one of json, text`}},
		{name: "bad level", file: "log: {level: trace}\n", want: []string{"error, warn, info, debug"}},
		{name: "bad bool", file: "admin: {pprof: maybe}\n", want: []string{`"maybe" is not true or false`}},
		{name: "sample of none", file: "accessLog: {sample: 0}\n", want: []string{"at least 1"}},
		{name: "negative limit", file: "http: {maxConnections: -1}\n", want: []string{"http.maxConnections", "at least 0"}},
		{name: "no range", file: "forwarded:\n  trustedCIDRs: [10.0.0.0/8, ten]\n", want: []string{`:2: forwarded.trustedCIDRs: "ten" is not a range of addresses`}},
		{name: "an address inside of a range", file: "forwarded: {trustedCIDRs: [10.0.0.1/8]}\n", want: []string{`"10.0.0.1/8" is an address inside of 10.0.0.0/8`}},
		{name: "IPv4 as IPv6", file: "forwarded: {trustedCIDRs: ['::ffff:10.0.0.0/104']}\n", want: []string{"write IPv4 addresses as such"}},
		{name: "a list in a list", file: "forwarded:\n  trustedCIDRs:\n  - [10.0.0.0/8]\n", want: []string{":3: forwarded.trustedCIDRs must be a list of single values"}},
		{name: "a list with nothing in it", file: "forwarded:\n  trustedCIDRs:\n  -\n", want: []string{":3: forwarded.trustedCIDRs must be a list of single values"}},
		{name: "port alone", file: "http:\n  address: 8080\n", want: []string{`:2: http.address: "8080" is not an address`, "missing port"}},
		{name: "port out of range", file: "http: {address: ':65536'}\n", want: []string{"65535"}},
		{name: "no value", file: "http:\n  address:\n", want: []string{":2: http.address has no value"}},
		{name: "list for a value", file: "http:\n  address: [a]\n", want: []string{"http.address must be a single value"}},
		{name: "value for a section", file: "http: ':80'\n", want: []string{"http must be a mapping of address"}},
		{name: "list for the file", file: "- a\n", want: []string{"the file must be a mapping"}},
		{name: "two documents", file: "log: {}\n---\nlog: {}\n", want: []string{"more than one YAML document"}},
		{name: "broken YAML", file: "log: {level: info\n", want: []string{"config file", "line "}},
		{name: "bad flag", args: []string{"--drain-delay=soon"}, want: []string{"drain-delay", "not a duration"}},
		{name: "files and a cluster", file: "manifests: a\n", args: []string{"--kubeconfig=b"}, want: []string{"not both"}},
		{name: "files and namespaces", file: "manifests: a\nwatchNamespaces: b\n", want: []string{"all objects in the files count"}},
		{name: "bad class", file: "classes: [Edge]\n", want: []string{`:1: classes: "Edge" is not the name of a ProxyClass`}},
		{name: "bad namespace", file: "watchNamespaces: [shop, Blog]\n", want: []string{`:1: watchNamespaces: "Blog" is not the name of a namespace`}},
		{name: "list of lists", file: "watchNamespaces: [[a]]\n", want: []string{"watchNamespaces must be a list of single values"}},
		{name: "a Service without a namespace", args: []string{"--replicas-service=ferrum"}, want: []string{`replicas.service is "ferrum"`, "namespace/name"}},
		{name: "too long a name of a Service", file: "replicas: {service: a/b/c}\n", want: []string{"namespace/name"}},
		{name: "a Redis without a host", file: "redis: {address: ':6379'}\n", want: []string{`redis.address: ":6379" has no host`}},
		{name: "a Redis without a port", file: "redis: {address: redis}\n", want: []string{"redis.address", "missing port"}},
		{name: "a Redis that is waited for for ever", file: "redis: {timeout: 0s}\n", want: []string{"redis.timeout is 0"}},
		{name: "no prefix", file: "redis: {prefix: ''}\n", want: []string{"redis.prefix is empty"}},
		{name: "files for TLS without TLS", file: "redis: {tls: {caFile: /ca}}\n", want: []string{"redis.tls.enabled is false"}},
		{name: "a certificate without a key", file: "redis: {tls: {enabled: true, certFile: /c}}\n", want: []string{"redis.tls.certFile and redis.tls.keyFile go together"}},
		{name: "nothing listens", args: []string{"--http=", "--admin="}, want: []string{"nothing would listen"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, tc.file, tc.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not contain %q", err, w)
				}
			}
		})
	}
}

func TestConfigFileThatDoesNotExistIsAnError(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	if _, err := loadConfig(filepath.Join(t.TempDir(), "none.yaml"), fs); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v", err)
	}
}

func TestEverySettingReadsBackWhatItWrites(t *testing.T) {
	a, b := DefaultConfig(), DefaultConfig()
	b.Log.Level, b.Drain.Delay, b.Admin.Pprof, b.AccessLog.Sample = slog.LevelDebug, 0, true, 9
	b.Forwarded.TrustedCIDRs, b.HTTP.MaxConnections = ranges("10.0.0.0/8", "2001:db8::/32"), 7
	from := b.settings()
	for i, to := range a.settings() {
		if err := to.value.Set(from[i].value.String()); err != nil {
			t.Errorf("%s: %v", to.key, err)
		}
	}
	if d := cmp.Diff(b, a, asValues); d != "" {
		t.Error(d)
	}
}

func TestTokenIsOneWordOfAFile(t *testing.T) {
	for _, tc := range []struct {
		name, content, want, err string
	}{
		{name: "a line", content: "s3cret\n", want: "s3cret"},
		{name: "empty", content: "", err: "is empty"},
		{name: "white space only", content: " \n", err: "is empty"},
		{name: "two words", content: "a b", err: "one word"},
		{name: "two lines", content: "a\nb\n", err: "one word"},
		{name: "not ASCII", content: "schlüssel", err: "one word"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readToken(path)
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := readToken(""); got != "" || err != nil {
		t.Errorf("no file: got %q, %v", got, err)
	}
	if _, err := readToken(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file must not mean that no token is asked for")
	}
}
