package dataplane_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// trouble is a kind of bad backend beside two good ones.
type trouble struct {
	name    string
	backend func(t *testing.T) netip.AddrPort
	// mostPerSpell is how many requests it may fail, beside those on their way,
	// each time that it serves until it is ejected.
	mostPerSpell int
}

var troubles = []trouble{
	{"refuses", unusedAddr, 5},
	{"hangs", func(t *testing.T) netip.AddrPort { return addrOf(listenTCP(t)) }, 5},
	{"fails half of the time", func(t *testing.T) netip.AddrPort {
		var n atomic.Int64
		return serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1)%2 == 0 {
				w.WriteHeader(503)
			}
		})
	}, 10},
	{"flaps every 2 s", func(t *testing.T) netip.AddrPort {
		began := time.Now()
		return serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			if int(time.Since(began)/(2*time.Second))%2 == 0 {
				c, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_ = c.Close()
				}
			}
		})
	}, 10},
}

// unusedAddr returns an address that refuses connections, and goes on to do so:
// who asks for any port, as tests of other packages do meanwhile, gets one that is
// higher.
func unusedAddr(t *testing.T) netip.AddrPort {
	for range 100 {
		addr := fmt.Sprint("127.0.0.1:", 20000+rand.IntN(6000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return netip.MustParseAddrPort(addr)
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

func listenTCP(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func addrOf(l net.Listener) netip.AddrPort { return netip.MustParseAddrPort(l.Addr().String()) }

func serveHTTP(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return addrOf(s.Listener)
}

// story is what becomes of the bad endpoint of one pool.
type story struct {
	mu              sync.Mutex
	ejections       int // from serving
	trials, returns int
	events          []string
}

func (s *story) transition(t plan.Transition, since time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case t.From == "serving":
		s.ejections++
	case t.To == "probing":
		s.trials++
	case t.To == "serving":
		s.returns++
	}
	s.events = append(s.events, fmt.Sprintf("%.2fs %s", since.Seconds(), t.To))
}

// told reports whether the endpoint was ejected and tried again.
func (s *story) told() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ejections > 0 && s.trials > 0
}

// wantFew checks how many requests of so many clients failed. The last ones may end
// after their answers.
func (s *story) wantFew(t *testing.T, tr trouble, failed, total, clients int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bound := (s.ejections+1)*(tr.mostPerSpell+clients) + s.trials
	t.Logf("%s: %d of %d requests failed, at most %d may; %d ejections, %d trials, %d returns: %s", tr.name,
		failed, total, bound, s.ejections, s.trials, s.returns, strings.Join(s.events[:min(8, len(s.events))], ", "))
	if s.ejections == 0 || s.trials == 0 || failed > bound {
		t.Errorf("%s: more failed than must", tr.name)
	}
	if strings.HasPrefix(tr.name, "refuses") && s.returns > 0 {
		t.Errorf("%s: it returned", tr.name)
	}
}

// TestBadBackendsCostNoMoreThanTheyMust puts each kind of bad backend beside two
// good ones, under steady load over TCP. What a client sees of it is bounded by
// counts, not by times: the requests until it is ejected, those on their way
// then, and one trial each time an ejection is over.
func TestBadBackendsCostNoMoreThanTheyMust(t *testing.T) {
	const clients, duration, patience = 4, 6 * time.Second, time.Minute
	p, stories, bad := troubledPlan(t)
	began := time.Now()
	var e *dataplane.Engine
	e = dataplane.New(dataplane.Config{
		HTTP: "127.0.0.1:0", Admin: "127.0.0.1:0", DrainTimeout: 10 * time.Second,
		OnTransition: func(c plan.Transition) {
			// The last requests may end when their pool is gone.
			if h, ok := e.PoolHealth(c.Pool); ok && (h.Ready < 2 || h.Ejected > 1 || h.Panic) {
				t.Errorf("%s: %+v", c.Pool.Service, h)
			}
			if c.Endpoint != bad[c.Pool.Service] {
				t.Errorf("a good endpoint of %s: %+v", c.Pool.Service, c)
			}
			stories[c.Pool.Service].transition(c, time.Since(began))
		},
	})
	if err := e.Apply(p); err != nil {
		t.Fatal(err)
	}
	defer runEngine(t, e)()

	var load sync.WaitGroup
	var total, failed [4]atomic.Int64
	for i := range troubles {
		for range clients {
			load.Go(func() {
				c := &http.Client{Transport: &http.Transport{}}
				defer c.CloseIdleConnections()
				for time.Since(began) < duration || !stories[fmt.Sprint("svc", i)].told() && time.Since(began) < patience {
					ok, err := oneGet(c, fmt.Sprintf("http://%s/%d", e.Addr("http"), i))
					if err != nil {
						t.Error(err)
						return
					}
					total[i].Add(1)
					if !ok {
						failed[i].Add(1)
					}
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
	}
	load.Wait()
	for i, tr := range troubles {
		stories[fmt.Sprint("svc", i)].wantFew(t, tr, int(failed[i].Load()), int(total[i].Load()), clients)
	}
	wantSeries(t, e, p)
}

// troubledPlan has a rule for each kind of trouble, /0 to /3.
func troubledPlan(t *testing.T) (p plan.Plan, stories map[string]*story, bad map[string]netip.AddrPort) {
	stories, bad = map[string]*story{}, map[string]netip.AddrPort{}
	route := &plan.Route{Namespace: "ns", Name: "trouble", Hostnames: []string{"*"}}
	p.Routes = []*plan.Route{route}
	for i, tr := range troubles {
		key := plan.PoolKey{Namespace: "ns", Service: fmt.Sprint("svc", i), Port: 80, Policy: plan.Policy{
			PanicThresholdPercent: 50,
			Connection:            plan.Connection{MaxIdlePerEndpoint: 64, IdleTimeout: 55 * time.Second},
			Passive: plan.PassiveCheck{
				ConsecutiveFailures: 5, FailurePercent: 40, FailureMinRequests: 10, FailureWindow: 2 * time.Second,
				BaseEjection: 300 * time.Millisecond, MaxEjection: 2 * time.Second, MaxEjectedPercent: 50,
			},
		}}
		key.Policy.Passive.Statuses.Add(502, 504)
		timeouts := plan.Timeouts{Connect: 20 * time.Second, ResponseHeader: 20 * time.Second}
		if tr.name == "hangs" {
			timeouts.ResponseHeader = 500 * time.Millisecond
		}
		route.Rules = append(route.Rules, plan.Rule{
			Name:     fmt.Sprint("rule-", i),
			Matches:  []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: fmt.Sprint("/", i)}}},
			Legs:     []plan.Leg{{Weight: 1, Pool: key}},
			Timeouts: timeouts,
		})
		stories[key.Service], bad[key.Service] = &story{}, tr.backend(t)
		fine := func(http.ResponseWriter, *http.Request) {}
		pool := plan.Pool{Key: key, Endpoints: []plan.Endpoint{
			{Addr: serveHTTP(t, fine)}, {Addr: bad[key.Service]}, {Addr: serveHTTP(t, fine)},
		}}
		p.Pools = append(p.Pools, pool)
	}
	return p, stories, bad
}

// oneGet reports whether a request was answered well. An error is what must not
// happen: no answer, or one that no endpoint could be found for.
func oneGet(c *http.Client, url string) (ok bool, err error) {
	res, err := c.Get(url)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && strings.Contains(string(body), "no_endpoints") {
		err = fmt.Errorf("%s: no endpoint", url)
	}
	return res.StatusCode == 200, err
}

// wantSeries checks that pools have series, and that those of pools that go do
// so, too.
func wantSeries(t *testing.T, e *dataplane.Engine, p plan.Plan) {
	t.Helper()
	admin := e.Addr("admin").String()
	text := scrape(t, admin)
	for _, want := range []string{
		`ferrum_upstream_endpoints{namespace="ns",port="80",service="svc0",state="serving"} 2`,
		`ferrum_upstream_panic{namespace="ns",port="80",service="svc1"} 0`,
		`ferrum_upstream_health_transitions_total{from="serving",namespace="ns",port="80",service="svc2",to="ejected"} `,
		`ferrum_upstream_ejections_total{namespace="ns",port="80",service="svc3"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the scrape has no %s", want)
		}
	}
	if err := e.Apply(plan.Plan{}); err != nil {
		t.Error(err)
	}
	if text := scrape(t, admin); strings.Contains(text, "ferrum_upstream_endpoints{") || strings.Contains(text, "ferrum_upstream_ejections_total{") {
		t.Error("pools that are gone have series")
	}
	if _, ok := e.PoolHealth(p.Pools[0].Key); ok {
		t.Error("a pool that is gone has health")
	}
}

// checkedPlan is a rule whose one endpoint is checked by TCP.
func checkedPlan(service string, addr netip.AddrPort) plan.Plan {
	key := plan.PoolKey{Namespace: "ns", Service: service, Port: 80, Policy: plan.Policy{Active: plan.ActiveCheck{
		Type: plan.CheckTCP, Interval: 100 * time.Millisecond, Timeout: 5 * time.Second, UnhealthyThreshold: 1, HealthyThreshold: 1,
	}}}
	return plan.Plan{
		Routes: []*plan.Route{{Namespace: "ns", Name: service, Hostnames: []string{"*"}, Rules: []plan.Rule{{
			Name: "all", Matches: []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}}}, Legs: []plan.Leg{{Weight: 1, Pool: key}},
		}}}},
		Pools: []plan.Pool{{Key: key, Endpoints: []plan.Endpoint{{Addr: addr}}}},
	}
}

func TestTheProcessIsReadyWhenThePoolsOfItsFirstTableWereChecked(t *testing.T) {
	refuses := unusedAddr(t)
	e := dataplane.New(dataplane.Config{HTTP: "127.0.0.1:0", DrainTimeout: time.Second})
	if err := e.Apply(checkedPlan("first", refuses)); err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(); err == nil {
		t.Error("ready before anything was checked")
	}
	defer runEngine(t, e)() // returns when it is ready: the result counts, whatever it is
	for i := range 10 {
		if err := e.Apply(checkedPlan(fmt.Sprint("later", i), refuses)); err != nil {
			t.Fatal(err)
		}
		if err := e.Ready(); err != nil {
			t.Errorf("a later pool makes the process unready: %v", err)
		}
	}
}

func TestTheProcessCanWaitForHealthyPools(t *testing.T) {
	addr := unusedAddr(t)
	var lines atomic.Pointer[[]string]
	lines.Store(new([]string))
	var mu sync.Mutex
	log := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		next := append(slices.Clone(*lines.Load()), args)
		lines.Store(&next)
	}, funcr.Options{})
	e := dataplane.New(dataplane.Config{HTTP: "127.0.0.1:0", DrainTimeout: time.Second, RequireHealthyPools: true, Log: log})
	if err := e.Apply(checkedPlan("web", addr)); err != nil {
		t.Fatal(err)
	}
	notReady := "no endpoint of ns/web:80 passes its checks"
	defer runUntil(t, e, func() bool { err := e.Ready(); return err != nil && err.Error() == notReady })()
	for !strings.Contains(strings.Join(*lines.Load(), "\n"), `"endpoint is unhealthy" "pool"="ns/web:80"`) {
		time.Sleep(time.Millisecond)
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	for e.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	_ = l.Close()
	for !strings.Contains(strings.Join(*lines.Load(), "\n"), `"from"="serving" "to"="unhealthy"`) || e.Explain(proxy.Query{Method: "GET", URL: "http://a.example.com/"}).Outcome == "ok" {
		time.Sleep(time.Millisecond)
	}
	if err := e.Ready(); err != nil {
		t.Errorf("once ready, it stays so: %v", err)
	}
}
