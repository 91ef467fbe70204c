package upstream_test

import (
	"context"
	"math"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

var key = plan.PoolKey{Namespace: "ns", Service: "web", Port: 80, Policy: plan.Policy{
	Connection: plan.Connection{MaxIdlePerEndpoint: 64, IdleTimeout: 55 * time.Second},
}}

func take(p *upstream.Pool) upstream.Turn { return p.Take(upstream.Ask{Now: time.Now()}) }

// done ends a request well.
func done(t *upstream.Turn) { t.Release(time.Now(), upstream.Success, "ok") }

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
}

// pools is one pool with n ready endpoints.
func pools(key plan.PoolKey, n int) []plan.Pool {
	p := plan.Pool{Key: key}
	for i := range n {
		p.Endpoints = append(p.Endpoints, plan.Endpoint{Addr: addr(i)})
	}
	return []plan.Pool{p}
}

func pool(t testing.TB, key plan.PoolKey, n int) *upstream.Pool {
	t.Helper()
	r := upstream.NewRegistry()
	r.Prepare(pools(key, n))
	return r.Pool(key)
}

func TestRoundRobinTakesTheEndpointsInTurn(t *testing.T) {
	k := key
	k.Policy.LoadBalancing.Balancer = plan.RoundRobin
	p := pool(t, k, 3)
	for i := range 9 {
		if e := take(p); e.Endpoint.Addr != addr(i%3) {
			t.Fatalf("pick %d is %s", i, e.Endpoint.Addr)
		}
	}
}

func TestLeastRequestSpreadsEvenlyAndAvoidsTheBusyEndpoint(t *testing.T) {
	const n, picks = 10, 20_000
	p := pool(t, key, n)
	counts := map[netip.AddrPort]int{}
	for range picks {
		e := take(p)
		counts[e.Endpoint.Addr]++
		done(&e)
	}
	for a, c := range counts {
		// Binomial(20000, 1/10) has a deviation of 42; six of them are never seen.
		if math.Abs(float64(c-picks/n)) > 6*42 {
			t.Errorf("%s was picked %d times of %d", a, c, picks)
		}
	}
	for range 5 {
		take(p) // five requests that do not end
	}
	busiest := p.Endpoints()[0]
	for _, e := range p.Endpoints() {
		if e.InFlight() > busiest.InFlight() {
			busiest = e
		}
	}
	clear(counts)
	for range picks {
		e := take(p)
		counts[e.Endpoint.Addr]++
		done(&e)
	}
	// It wins only against an endpoint that is as busy.
	if c := counts[busiest.Addr]; c > picks/n {
		t.Errorf("the busiest endpoint was picked %d times of %d", c, picks)
	}
}

func TestAPoolOfOneAndAnEmptyPool(t *testing.T) {
	if e := take(pool(t, key, 1)).Endpoint; e == nil || e.Addr != addr(0) || e.InFlight() != 1 {
		t.Errorf("one: %v", e)
	}
	if e := take(pool(t, key, 0)).Endpoint; e != nil {
		t.Errorf("empty: %v", e.Addr)
	}
}

func TestDrainingEndpointsTakeRequestsOnlyWhenNoneIsReady(t *testing.T) {
	r := upstream.NewRegistry()
	set := func(states ...plan.EndpointState) *upstream.Pool {
		p := plan.Pool{Key: key}
		for i, s := range states {
			p.Endpoints = append(p.Endpoints, plan.Endpoint{Addr: addr(i), State: s})
		}
		r.Prepare([]plan.Pool{p})
		return r.Pool(key)
	}
	p := set(plan.Draining, plan.Ready, plan.NotReady)
	for range 50 {
		if e := take(p).Endpoint; e.Addr != addr(1) {
			t.Fatalf("%s was picked beside a ready one", e.Addr)
		}
	}
	if p.Eligible(p.Endpoints()[0], time.Now()) || !p.Eligible(p.Endpoints()[1], time.Now()) {
		t.Error("eligible is not what is picked")
	}
	p = set(plan.Draining, plan.NotReady, plan.NotReady)
	if e := take(p).Endpoint; e == nil || e.Addr != addr(0) {
		t.Errorf("with none ready: %v", e)
	}
	p = set(plan.NotReady, plan.NotReady, plan.NotReady)
	if e := take(p).Endpoint; e != nil {
		t.Errorf("%s was picked though nothing serves", e.Addr)
	}
}

func TestEndpointsLiveAcrossPlansByTheirAddress(t *testing.T) {
	r := upstream.NewRegistry()
	r.Prepare(pools(key, 3))
	p := r.Pool(key)
	e := take(p).Endpoint
	r.Prepare(pools(key, 300))
	r.Retire(pools(key, 300))
	if r.Pool(key) != p {
		t.Fatal("the pool was made anew")
	}
	found := false
	for _, x := range p.Endpoints() {
		found = found || x == e
	}
	if !found || e.InFlight() != 1 {
		t.Errorf("the endpoint was made anew, or has %d in flight", e.InFlight())
	}
	r.Retire(nil)
	if r.Pool(key) != nil || len(r.Pools()) != 0 {
		t.Error("a retired pool is still there")
	}
}

// kept gives an endpoint an idle connection and returns its far end.
func kept(e *upstream.Endpoint, now time.Time) *memnet.Conn {
	near, far := memnet.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), e.Addr)
	e.Keep(http1.NewConn(near, 0), now, now, 0)
	return far
}

func isClosed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, err := c.Read(make([]byte, 1))
	ne, timeout := err.(interface{ Timeout() bool })
	return err != nil && (!timeout || !ne.Timeout())
}

func TestIdleConnectionsAreUsedLastFirstAndNotWhenTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pool(t, key, 1).Endpoints()[0]
		old := kept(e, time.Now())
		time.Sleep(30 * time.Second)
		young := kept(e, time.Now())
		time.Sleep(30 * time.Second)
		c, _ := e.IdleConn(time.Now())
		if c == nil || isClosed(young) {
			t.Fatal("the connection used last was not given")
		}
		if c, _ := e.IdleConn(time.Now()); c != nil || !isClosed(old) || e.Idle() != 0 {
			t.Error("a connection idle for a minute was given, or not closed")
		}
	})
}

func TestRetiringClosesIdleConnectionsAndKeepsNoMore(t *testing.T) {
	r := upstream.NewRegistry()
	r.Prepare(pools(key, 2))
	gone := r.Pool(key).Endpoints()[1]
	far := kept(gone, time.Now())
	r.Prepare(pools(key, 1))
	if !isClosed(far) {
		t.Error("the idle connection of an endpoint that went is open")
	}
	if !isClosed(kept(gone, time.Now())) || gone.Idle() != 0 {
		t.Error("an endpoint that went keeps connections")
	}
	stays := kept(r.Pool(key).Endpoints()[0], time.Now())
	r.Retire(nil)
	if !isClosed(stays) {
		t.Error("the idle connection of a pool that went is open")
	}
}

func TestTheSweepClosesWhatIsTooOldOrClosedByThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := upstream.NewRegistry()
		r.Prepare(pools(key, 1))
		e := r.Pool(key).Endpoints()[0]
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		kept(e, time.Now())
		peerCloses := kept(e, time.Now())
		_ = peerCloses.Close()
		time.Sleep(10 * time.Second)
		if n := e.Idle(); n != 1 {
			t.Errorf("%d idle after the peer closed one of two", n)
		}
		time.Sleep(time.Minute)
		if n := e.Idle(); n != 0 {
			t.Errorf("%d idle after a minute", n)
		}
		last := kept(e, time.Now())
		cancel()
		<-done
		if !isClosed(last) {
			t.Error("the end of Run leaves a connection open")
		}
	})
}

// Of an address that had come and gone twice, what the pool remembered was its second
// endpoint alone. When nothing was in flight at that any more, the tunnels of the first
// one were forgotten, and cut though the address had come back.
func TestAnAddressKeepsItsUpgradedConnectionsHoweverOftenItIsGoneForAMoment(t *testing.T) {
	for _, b := range balancers {
		synctest.Test(t, func(t *testing.T) {
			k := keyWith(b, func(p *plan.Policy) { p.DrainTimeout = time.Minute })
			r := upstream.NewRegistry()
			is := func(there ...int) *upstream.Endpoint {
				p := plan.Pool{Key: k}
				for _, i := range there {
					p.Endpoints = append(p.Endpoints, plan.Endpoint{Addr: addr(i)})
				}
				r.Prepare([]plan.Pool{p})
				if all := r.Pool(k).Endpoints(); len(all) > 0 {
					return all[0]
				}
				return nil
			}
			is(0)
			first := takeKeyed(r.Pool(k))
			cut := false
			first.Endpoint.Upgraded(func() { cut = true })
			is()
			is(0)
			second := takeKeyed(r.Pool(k))
			is()
			done(&second)
			is(1)
			e := is(0)
			if n := e.InFlight(); n != 1 {
				t.Errorf("%s: %d in flight at the address", b, n)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if cut {
				t.Errorf("%s: it was cut", b)
			}
			done(&first)
			if n := e.InFlight(); n != 0 {
				t.Errorf("%s: %d in flight in the end", b, n)
			}
			r.Retire(nil)
		})
	}
}
