package dataplane_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// TestTheTableExplainAndTheBackendNameTheSameRule holds three answers to the
// same question against each other, over random sets of routes: the rule in the
// access record (the compiled table), the winner that explain finds (a naive
// walk), and the backend that really answered.
func TestTheTableExplainAndTheBackendNameTheSameRule(t *testing.T) {
	const seeds, requests = 60, 40
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, rules := randomPlan(r)
		e, dial := memoryEngine(t)
		if err := e.Apply(p); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		c := dial()
		br := bufio.NewReader(c)
		for range requests {
			q := randomQuery(r)
			x := e.Explain(q)
			res, body := ask(t, c, br, q)
			want := "404"
			if x.Winner != nil {
				want = x.Winner.Namespace + "/" + x.Winner.Route + "/" + x.Winner.Rule
			}
			got := fmt.Sprint(res.StatusCode)
			if res.StatusCode == 200 {
				got = rules[body]
			}
			if got != want {
				t.Fatalf("seed %d: %s %s %s %v: explain says %s (%s), the backend is of %s",
					seed, q.Method, q.Host, q.URL, q.Headers, want, x.DecidedBy, got)
			}
		}
	}
}

// memoryEngine is an Engine whose clients and backends are in memory; a backend
// answers with its own address.
func memoryEngine(t *testing.T) (e *dataplane.Engine, dial func() net.Conn) {
	n := memnet.New()
	dialUp := func(addr netip.AddrPort, _ time.Duration) (net.Conn, error) {
		a, b := memnet.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), addr)
		go answerWithAddress(b, addr)
		return a, nil
	}
	// A request that has its answer may not have ended yet when the drain begins.
	e = dataplane.New(dataplane.Config{Dial: dialUp, DrainTimeout: 20 * time.Second})
	front := netip.MustParseAddrPort("192.0.2.80:80")
	l := n.Listen(front)
	go e.Serve(l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e, func() net.Conn {
		c, err := n.Dial(front)
		for err != nil { // until Serve has the listener
			c, err = n.Dial(front)
		}
		conns = append(conns, c)
		return c
	}
}

func answerWithAddress(c net.Conn, addr netip.AddrPort) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(addr.String()), addr)
	}
}

func ask(t *testing.T, c net.Conn, br *bufio.Reader, q proxy.Query) (*http.Response, string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.Method, q.URL, q.Host)
	for _, h := range q.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(c, b.String()); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(br, &http.Request{Method: q.Method})
	if err != nil {
		t.Fatalf("%s: %v", b.String(), err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

var (
	someHosts = []string{"a.example.com", "b.example.com", "x.a.example.com", "*.example.com", "*.a.example.com", "*"}
	somePaths = []string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/a%2Fb", "/b"}
	someRegex = []string{"/a.*", "/[ab]", ".*", "/a/b/?c?"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// randomPlan is made of few hosts, paths and conditions, so that its rules
// collide. It gives each rule a pool of one endpoint; rules names them by the
// endpoint's address.
func randomPlan(r *rand.Rand) (p plan.Plan, rules map[string]string) {
	rules = make(map[string]string)
	for i := range 1 + r.IntN(8) {
		route := &plan.Route{Namespace: "ns", Name: fmt.Sprintf("route%d", i)}
		for range 1 + r.IntN(2) {
			if h := pick(r, someHosts); len(route.Hostnames) == 0 || route.Hostnames[0] != h {
				route.Hostnames = append(route.Hostnames, h)
			}
		}
		for j := range 1 + r.IntN(3) {
			name := fmt.Sprintf("rule-%d", j)
			key := plan.PoolKey{Namespace: "ns", Service: fmt.Sprintf("%s-%s", route.Name, name), Port: 80}
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}), 80)
			rule := plan.Rule{Name: name, Legs: []plan.Leg{{Weight: 1, Pool: key}}}
			for range 1 + r.IntN(3) {
				rule.Matches = append(rule.Matches, randomMatch(r))
			}
			route.Rules = append(route.Rules, rule)
			p.Pools = append(p.Pools, plan.Pool{Key: key, Endpoints: []plan.Endpoint{{Addr: addr}}})
			rules[addr.String()] = "ns/" + route.Name + "/" + name
		}
		p.Routes = append(p.Routes, route)
	}
	return p, rules
}

func randomMatch(r *rand.Rand) plan.Match {
	m := plan.Match{Path: plan.PathMatch{Type: plan.PathType(1 + r.IntN(3)), Value: pick(r, somePaths)}}
	if m.Path.Type == plan.PathRegex {
		m.Path.Value = pick(r, someRegex)
	}
	if r.IntN(3) == 0 {
		m.Method = pick(r, []string{"GET", "POST"})
	}
	for _, name := range []string{"x-one", "x-two"} {
		if r.IntN(4) == 0 {
			m.Headers = append(m.Headers, plan.ValueMatch{Name: name, Value: pick(r, []string{"1", "2", "1|2"}), Regex: r.IntN(2) == 0})
		}
	}
	for _, name := range []string{"v", "w"} {
		if r.IntN(4) == 0 {
			m.Query = append(m.Query, plan.ValueMatch{Name: name, Value: pick(r, []string{"1", "a b", "1.*"}), Regex: r.IntN(3) == 0})
		}
	}
	return m
}

func randomQuery(r *rand.Rand) proxy.Query {
	q := proxy.Query{
		Method: pick(r, []string{"GET", "POST"}),
		Host:   pick(r, []string{"a.example.com", "A.Example.Com:8080", "b.example.com.", "x.a.example.com", "y.x.a.example.com", "example.com", "else"}),
		URL:    pick(r, []string{"/", "/a", "/a/", "/a/b", "/a/./b", "/a//b/c", "/ab", "/a%2fb", "/%61/b", "/b/../a", "/c"}),
	}
	if r.IntN(2) == 0 {
		q.URL += "?" + pick(r, []string{"v=1", "v=1&w=a+b", "w=a%20b&v=2&v=1", "v=12", "%76=1"})
	}
	for _, name := range []string{"X-One", "x-two"} {
		if r.IntN(2) == 0 {
			q.Headers = append(q.Headers, proxy.HeaderField{Name: name, Value: pick(r, []string{"1", "2", "3"})})
		}
	}
	return q
}
