package main

import (
	"fmt"
	"strings"
)

// Paths of the backends; every other path answers as small does.
const (
	smallPath  = "/"
	largePath  = "/large"
	uploadPath = "/upload"
)

// Bodies, in bytes.
const (
	smallBody  = 1 << 10
	largeBody  = 256 << 10
	uploadBody = 64 << 10
)

// The rules of many_routes: hosts times prefixes.
const (
	manyHosts    = 625
	rulesPerHost = 16 // as many as a ProxyRoute may have
)

// metric is a figure of a measurement that proxies are compared by; of each,
// less is better.
type metric string

const (
	cpuTime     metric = "CPU us/request"
	p99         metric = "p99 ms"
	idleMemory  metric = "KiB/idle connection"
	ferrumName         = "ferrum"
	swappedName        = "ferrum, swapped"
)

// scenario is a kind of load, the same for every proxy.
type scenario struct {
	name  string
	about string
	conns int    // of wrk
	path  string // of the request
	// script is wrk's Lua script; "" = GETs of path.
	script string
	header string // an additional field of the request
	host   string // of the request that tells whether the proxy is ready; "" = its address
	expect int    // bytes of the response to it
	upload int    // bytes of its body

	routes    int // serve rulesPerHost rules of so many hosts; 0 = one for everything
	accessLog bool
	idle      bool // hold idle connections beside the load
	swaps     bool // compare ferrum with itself while its table is swapped
	retries   bool // one of two backends always says 503: every proxy that can tries the other

	compare metric
	// most is how much of a peer's figure ferrum's may be, by the peer's name.
	most map[string]float64
	// atMost bounds ferrum's own figure; 0 = no bound. With over, it bounds the
	// ratio to ferrum's figure in the scenario of that name, if that ran before.
	atMost float64
	over   string
}

func (s scenario) title() string { return s.name }

// scenarios are all of them, in the order in which they run.
func scenarios() []scenario {
	healthy := scenario{
		name: "healthy_get", about: "GET, 1 KiB", conns: 128, path: smallPath, expect: smallBody, compare: cpuTime,
		most: map[string]float64{"nginx": 1, "haproxy": 1, "reverseproxy": 0.25},
	}
	like := func(name, about string) scenario {
		s := healthy
		s.name, s.about, s.most = name, about, nil
		return s
	}
	churn := like("connection_churn", "GET, 1 KiB, a connection for every request")
	churn.header = "Connection: close"
	churn.most = map[string]float64{"nginx": 1.1, "haproxy": 1.1, "reverseproxy": 0.6}

	routes := like("many_routes", fmt.Sprintf("GET, 1 KiB, all of %d rules in turn", manyHosts*rulesPerHost))
	routes.routes, routes.host, routes.path, routes.script = manyHosts, manyHost(0), manyPrefix(0)+"/x", manyRoutesScript

	logged := like("access_log", "GET, 1 KiB, every proxy writes an access log to a file")
	logged.accessLog = true

	retried := like("retry_get", "GET, 1 KiB, one of two backends always answers 503, one retry")
	retried.retries, retried.conns, retried.most = true, 64, map[string]float64{"nginx": 1, "haproxy": 1}
	retried.over, retried.atMost = healthy.name, 2.2

	idle := like("idle_connections", "GET, 1 KiB, beside idle keep-alive connections")
	idle.idle, idle.conns, idle.compare, idle.atMost = true, 8, idleMemory, 6

	swaps := like("swaps", "GET, 1 KiB, ferrum's manifests change every 100 ms")
	swaps.swaps, swaps.compare, swaps.most = true, p99, map[string]float64{ferrumName: 1.2}

	return []scenario{
		healthy,
		{
			name: "large_response", about: "GET, 256 KiB", conns: 64, path: largePath, expect: largeBody, compare: cpuTime,
			most: map[string]float64{"nginx": 1, "haproxy": 0.7, "reverseproxy": 0.5},
		},
		{
			name: "upload_post", about: "POST, 64 KiB", conns: 48, path: uploadPath, script: uploadScript, upload: uploadBody,
			compare: cpuTime, most: map[string]float64{"nginx": 0.9, "haproxy": 1, "reverseproxy": 0.5},
		},
		churn, retried, idle, routes, logged, swaps,
	}
}

// manyHost and manyPrefix are the hosts and path prefixes of many_routes.
func manyHost(i int) string   { return fmt.Sprintf("h%d.example.com", i) }
func manyPrefix(i int) string { return fmt.Sprintf("/p%d", i) }

var uploadScript = fmt.Sprintf(`wrk.method = "POST"
wrk.body = string.rep("x", %d)
wrk.headers["Content-Type"] = "application/octet-stream"
`, uploadBody)

// manyRoutesScript goes through the rules in steps of a prime, so that one
// request says nothing about the next.
var manyRoutesScript = strings.NewReplacer("HOSTS", fmt.Sprint(manyHosts), "RULES", fmt.Sprint(rulesPerHost)).Replace(`
local requests, n = {}, 0
function init()
  for h = 0, HOSTS - 1 do
    for r = 0, RULES - 1 do
      requests[#requests + 1] = wrk.format("GET", "/p" .. r .. "/x", {Host = "h" .. h .. ".example.com"})
    end
  end
end
function request()
  n = (n + 7919) % #requests
  return requests[n + 1]
end
`)
