package dataplane_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// The tests here count over real time, but no bound depends on how fast the
// machine is: what a bucket lets through is known from the time that has passed,
// as long as somebody asks all the time. A period begins and ends with refusals,
// when buckets are empty, and the burst is that of two seconds, so that a pause
// shorter than that loses no token.

const (
	replicas  = 3
	perSecond = 100
	burst     = 200
	offered   = 60 // requests in a second, for each replica
)

// replicated are replicas on loopback TCP.
type replicated struct {
	t       *testing.T
	engines []*dataplane.Engine
}

// replicate starts the replicas; without a Redis its address is "".
func replicate(t *testing.T, redis string) *replicated {
	t.Helper()
	backend := netip.MustParseAddrPort(backendOf(t))
	r := &replicated{t: t}
	for range replicas {
		e := dataplane.New(dataplane.Config{
			HTTP: "127.0.0.1:0", Log: logr.Discard(), DrainTimeout: 20 * time.Second,
			Shared: shared.Config{Address: redis, Timeout: time.Second},
		})
		e.SetReplicas(replicas)
		if err := e.Apply(limitedPlan(backend)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(runEngine(t, e))
		r.engines = append(r.engines, e)
	}
	return r
}

// backendOf returns the address of a backend that costs little.
func backendOf(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerWithAddress(c, netip.MustParseAddrPort(l.Addr().String()))
		}
	}()
	return l.Addr().String()
}

// limitedPlan has two rules: one that is limited for all replicas together, and
// one that is not limited.
func limitedPlan(backend netip.AddrPort) plan.Plan {
	key := plan.PoolKey{Namespace: "shop", Service: "web", Port: 80, Policy: plan.Policy{
		Connection: plan.Connection{MaxIdlePerEndpoint: 64, IdleTimeout: time.Minute},
	}}
	rule := func(name, path string, filters ...plan.Filter) plan.Rule {
		return plan.Rule{
			Name: name, Filters: filters, Legs: []plan.Leg{{Weight: 1, Pool: key}},
			Matches:  []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: path}}},
			Timeouts: plan.Timeouts{Connect: 20 * time.Second, ResponseHeader: 20 * time.Second},
		}
	}
	return plan.Plan{
		Routes: []*plan.Route{{Namespace: "shop", Name: "shop", Hostnames: []string{"*"}, Rules: []plan.Rule{
			rule("limited", "/limited", plan.Filter{Type: plan.FilterRateLimit, RateLimit: plan.RateLimit{
				Requests: perSecond, Period: time.Second, Burst: burst, Cluster: true, Key: plan.LimitKey{Source: plan.LimitByRoute},
			}}),
			rule("free", "/free"),
		}}},
		Pools: []plan.Pool{{Key: key, Endpoints: []plan.Endpoint{{Addr: backend}}}},
	}
}

// soon asks again and again.
func soon(t *testing.T, what string, yes func() bool, more ...func() string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			for _, m := range more {
				what += " " + m()
			}
			t.Fatalf("never became true: %s", what)
		}
	}
}

// load asks for a path again and again.
type load struct {
	passed, refused, failed atomic.Int64
	lastRefused             [replicas]atomic.Int64 // by each, in ns since 1970
}

// ask sends a number of requests a second to each replica, by several clients,
// until stop is called.
func (r *replicated) ask(path string, rate int) (l *load, stop func()) {
	const clients = 3
	l = &load{}
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	for i, e := range r.engines {
		for j := range clients {
			wg.Go(func() {
				every := time.Second * clients / time.Duration(rate)
				<-time.After(every * time.Duration(i*clients+j) / (clients * replicas)) // one after the other
				tick := time.NewTicker(every)
				defer tick.Stop()
				l.client(ctx, tick.C, i, e.Addr("http").String(), path)
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(stop)
	return l, stop
}

// client sends requests on one connection.
func (l *load) client(ctx context.Context, tick <-chan time.Time, replica int, addr, path string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		l.failed.Add(1)
		return
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // it is open
		if !l.one(c, br, replica, path) {
			l.failed.Add(1)
			return
		}
	}
}

// one sends a request and reports whether it was answered as it should be.
func (l *load) one(c net.Conn, br *bufio.Reader, replica int, path string) bool {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"); err != nil {
		return false
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return false
	}
	if _, err = io.Copy(io.Discard, res.Body); err != nil {
		return false
	}
	switch {
	case res.StatusCode == http.StatusOK:
		l.passed.Add(1)
	case res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != "" && res.Header.Get("RateLimit") != "":
		l.refused.Add(1)
		l.lastRefused[replica].Store(time.Now().UnixNano())
	default:
		return false
	}
	return true
}

// empty waits until all replicas have refused something since now.
func (l *load) empty(t *testing.T) time.Time {
	t.Helper()
	now := time.Now().UnixNano()
	for i := range l.lastRefused {
		soon(t, "a refusal", func() bool { return l.lastRefused[i].Load() > now }, func() string {
			return fmt.Sprintf("of replica %d; %d went through, %d were refused, %d failed", i, l.passed.Load(), l.refused.Load(), l.failed.Load())
		})
	}
	return time.Now()
}

// period lets a time pass under load, from empty buckets to empty buckets, and
// returns what went through and what should have.
func (l *load) period(t *testing.T, d time.Duration) (passed, want float64) {
	t.Helper()
	began := l.empty(t)
	before := l.passed.Load()
	<-time.After(d)
	ended := l.empty(t)
	return float64(l.passed.Load() - before), ended.Sub(began).Seconds() * perSecond
}

// wantRate fails the test unless what goes through, once what was left in buckets
// has gone, is what should, within a part of it.
func (l *load) wantRate(t *testing.T, when string, part float64) {
	t.Helper()
	l.period(t, time.Second/2)
	passed, want := l.period(t, 3*time.Second)
	t.Logf("%s: %.0f went through, want %.0f", when, passed, want)
	if passed < want*(1-part) || passed > want*(1+part) {
		t.Errorf("%s: %.0f went through, want %.0f within %.0f %%", when, passed, want, part*100)
	}
}

func TestReplicasWithoutRedisLetTheRateThroughInParts(t *testing.T) {
	r := replicate(t, "")
	limited, stop := r.ask("/limited", offered)
	limited.wantRate(t, "without Redis", 0.15)
	stop()
	if n := limited.failed.Load(); n > 0 {
		t.Errorf("%d requests failed", n)
	}
}
