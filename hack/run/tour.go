package main

import (
	"fmt"
	"io"
	"net"
	"strings"
)

// step is a request to try through the proxy, and what it shows.
type step struct {
	shows   string
	host    string
	path    string
	headers []string // "name: value"
	// status and body that it gives; body is the start of it. The test of the
	// tour sends the steps and compares.
	status int
	body   string
}

var steps = []step{
	{shows: "a request goes by its host; look at the headers that reach the backend", host: "shop.example.com", path: "/", status: 200, body: "web at "},
	{shows: "a header decides: the rule api-beta is more specific than api", host: "shop.example.com", path: "/api/items", headers: []string{"x-canary: 1"}, status: 200, body: "api-canary at "},
	{shows: "the path is made canonical before it is matched, and forwarded so", host: "shop.example.com", path: "/web/../%61pi//items", headers: []string{"x-canary: 1"}, status: 200, body: "api-canary at "},
	{shows: "a wildcard host", host: "acme.shop.example.com", path: "/", status: 200, body: "web at "},
	{shows: "a slow backend, within its timeout", host: "shop.example.com", path: "/reports/today", status: 200, body: "reports at "},
	{shows: "... and beyond it: 504, response_header_timeout", host: "shop.example.com", path: "/search?kind=report&delay=5s", status: 504},
	{shows: "a Service without endpoints: 503, no_endpoints", host: "acme.shop.example.com", path: "/archive", status: 503},
	{shows: "a host that no route has: 404, no_route", host: "other.example.com", path: "/", status: 404},
}

// curl returns the step as a command line. --path-as-is, because curl would
// remove dot segments itself.
func (s step) curl(proxy string) string {
	flags := "-i"
	if strings.Contains(s.path, "..") {
		flags += " --path-as-is"
	}
	for _, h := range append([]string{"Host: " + s.host}, s.headers...) {
		flags += " -H '" + h + "'"
	}
	return fmt.Sprintf("curl %s '%s%s'", flags, proxy, s.path)
}

// printTour writes what to try.
func printTour(w io.Writer, o options) {
	proxy, admin := "http://"+o.http, "http://"+o.admin
	fmt.Fprintf(w, `
The proxy listens on %s; its log is below. In another terminal:

`, proxy)
	for _, s := range steps {
		fmt.Fprintf(w, "# %s\n%s\n", s.shows, s.curl(proxy))
	}
	fmt.Fprintf(w, `
# weights: nine of ten go to api, one to api-canary
for i in $(seq 20); do curl -s -H 'Host: shop.example.com' %[1]s/api | head -1; done | sort | uniq -c
# which rule takes a request, why, and which endpoints could serve it
go run ./cmd/ferrum explain --admin %[2]s GET http://shop.example.com/api/items -H 'x-canary: 1'
# a backend that hangs up: 502, upstream_reset; and well again
curl -s -X POST http://%[4]s/-/fail; curl -i -H 'Host: shop.example.com' -H 'x-canary: 1' %[1]s/api
curl -s -X POST http://%[4]s/-/recover
# requests by rule and status
curl -s %[2]s/metrics | grep '^ferrum_requests_total.* [1-9]'
# edit %[3]s/shop.yaml (a weight, a path) and ask again: no restart;
# break it, and it counts as it was before: the log names file and line

Ctrl-C ends all of it.

`, proxy, admin, o.samples, o.canary)
}

// loopback reports whether addr is a host:port on loopback, which is all that a
// playground should listen on.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
