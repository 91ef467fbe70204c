package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// proxy is a program that is compared.
type proxy struct {
	name        string
	binaryHelp  string
	source      string   // package of this module that is built; or
	command     string   // what is looked for; neither = only by its flag
	version     string   // if it is known
	versionArgs []string // make the binary say it
	// retries: it can try a GET again that was answered with 503.
	retries bool
	// configs are the templates below peers of what it reads.
	configs []string
	// args start it, in the foreground, in the directory of its configs.
	args func(j job) []string
}

func (p proxy) title() string { return p.name }

// job is what a proxy has to do; the templates' data.
type job struct {
	Listen, Admin string // addresses
	Dir           string // of the configs
	Backends      []string
	Workers       int // CPUs
	Clients       int // most connections at a time
	AccessLog     bool
	Retries       bool // try the other backend after 503, and go on using both
	Root          bool // it is started as root
	Routes        int  // hosts of many_routes; 0 = one rule for everything
}

// Hosts and Prefixes are those of many_routes.
func (j job) Hosts() (hosts []string) {
	for i := range j.Routes {
		hosts = append(hosts, manyHost(i))
	}
	return hosts
}

func (j job) Prefixes() (prefixes []string) {
	for i := range rulesPerHost {
		prefixes = append(prefixes, manyPrefix(i))
	}
	return prefixes
}

// OpenFiles is what a connection to a client and one to a backend each need, and
// some more.
func (j job) OpenFiles() int { return j.Clients + 2048 }

// proxies are all that this program can run, ferrum first.
func proxies() []proxy {
	return []proxy{
		{
			name: ferrumName, source: "./cmd/ferrum", binaryHelp: "ferrum binary; empty = built from cmd/ferrum",
			retries: true, configs: []string{"ferrum.yaml"}, args: ferrumArgs,
		},
		{
			name: "base", binaryHelp: "another ferrum binary, such as one of before a change; empty = left out",
			retries: true, configs: []string{"ferrum.yaml"}, args: ferrumArgs,
		},
		{
			name: "nginx", command: "nginx", versionArgs: []string{"-v"}, binaryHelp: "nginx binary; empty = looked for",
			retries: true,
			configs: []string{"nginx.conf"},
			args: func(j job) []string {
				return []string{"-p", j.Dir, "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"}
			},
		},
		{
			name: "haproxy", command: "haproxy", versionArgs: []string{"-v"}, binaryHelp: "HAProxy binary; empty = looked for",
			retries: true,
			configs: []string{"haproxy.cfg", "haproxy.map"},
			args:    func(job) []string { return []string{"-db", "-f", "haproxy.cfg"} },
		},
		{
			name: "reverseproxy", source: "./hack/bench/peers/reverseproxy", version: runtime.Version(), binaryHelp: "httputil.ReverseProxy; empty = built from hack/bench/peers/reverseproxy",
			args: func(j job) []string {
				args := []string{"-listen", j.Listen, "-backends", strings.Join(j.Backends, ",")}
				if j.AccessLog {
					args = append(args, "-access-log")
				}
				if j.Routes > 0 {
					args = append(args, "-hosts", strings.Join(j.Hosts(), ","), "-prefixes", strings.Join(j.Prefixes(), ","))
				}
				return args
			},
		},
		{
			name: "traefik", versionArgs: []string{"version"}, binaryHelp: "Traefik binary; empty = left out",
			configs: []string{"traefik.yaml", "traefik-routes.yaml"},
			args:    func(job) []string { return []string{"--configFile=traefik.yaml"} },
		},
		{
			name: "caddy", versionArgs: []string{"version"}, binaryHelp: "Caddy binary; empty = left out",
			configs: []string{"Caddyfile"},
			args:    func(job) []string { return []string{"run", "--config", "Caddyfile", "--adapter", "caddyfile"} },
		},
		{
			name: "envoy", versionArgs: []string{"--version"}, binaryHelp: "Envoy binary; empty = left out",
			retries: true,
			configs: []string{"envoy.yaml"},
			args: func(j job) []string {
				return []string{"-c", "envoy.yaml", "--concurrency", fmt.Sprint(j.Workers), "--disable-hot-restart", "--log-level", "error"}
			},
		},
	}
}

func ferrumArgs(j job) []string {
	return []string{"run", "--manifests", ".", "--http", j.Listen, "--admin", j.Admin,
		"--access-log", onOff(j.AccessLog, "json", "off"), "--drain-delay", "0s", "--drain-timeout", "1s",
		// Its default keeps half of the open files for endpoints.
		"--max-connections", strconv.Itoa(j.OpenFiles())}
}

func onOff(b bool, on, off string) string {
	if b {
		return on
	}
	return off
}

//go:embed peers/*.tmpl
var configFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"port": func(addr string) (string, error) {
		_, port, err := net.SplitHostPort(addr)
		return port, err
	},
}).ParseFS(configFiles, "peers/*.tmpl"))

// writeConfigs writes a proxy's configuration into its directory.
func (p proxy) writeConfigs(j job) error {
	for _, name := range p.configs {
		var out bytes.Buffer
		if err := templates.ExecuteTemplate(&out, name+".tmpl", j); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(j.Dir, name), out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var versionPattern = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// versionOf asks a binary for its version.
func versionOf(ctx context.Context, binary string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, binary, args...).CombinedOutput() // some exit with 1 and say it
	return versionPattern.FindString(string(out))
}
