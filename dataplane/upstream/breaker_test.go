package upstream_test

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// bounded is key with a circuit breaker.
func bounded(b plan.CircuitBreaker) plan.PoolKey {
	k := key
	k.Policy.Breaker = b
	return k
}

// connect makes a connection for p as requests do; nil: there is no room.
func connect(p *upstream.Pool) *http1.Conn {
	if !p.Connect() {
		return nil
	}
	near, far := net.Pipe()
	_ = far.Close()
	c := http1.NewConn(near, 0)
	c.OnClose(p.Breaker.Connections.Release)
	return c
}

func TestAPoolWithoutBoundsHasNoBreaker(t *testing.T) {
	if p := pool(t, bounded(plan.CircuitBreaker{MaxPendingRequests: 5}), 1); p.Breaker != nil {
		t.Error("it has one")
	}
}

func TestWithEveryBalancerFullEndpointsAreLeftOut(t *testing.T) {
	for _, balancer := range []plan.Balancer{
		plan.LeastRequest, plan.RoundRobin, plan.PeakEWMA, plan.ConsistentHash, plan.Random, plan.FirstHealthy,
	} {
		k := bounded(plan.CircuitBreaker{EndpointMaxParallelRequests: 2})
		k.Policy.LoadBalancing.Balancer = balancer
		p := pool(t, k, 3)
		if got := p.Breaker.Limit(); got != 6 {
			t.Errorf("%s: the pool takes %d", balancer, got)
		}
		var turns []upstream.Turn
		for i := range 6 {
			turn := p.Take(upstream.Ask{Now: time.Now(), Key: 7, Keyed: true})
			if turn.Endpoint == nil {
				t.Fatalf("%s: request %d found no endpoint", balancer, i)
			}
			turns = append(turns, turn)
		}
		for _, e := range p.Endpoints() {
			if e.InFlight() != 2 {
				t.Errorf("%s: %s has %d", balancer, e.Addr, e.InFlight())
			}
		}
		if turn := take(p); turn.Endpoint != nil || !turn.Full {
			t.Errorf("%s: a seventh one, at %v", balancer, turn.Endpoint)
		}
		if turn := p.TakeAt(addr(1)); turn.Endpoint != nil || !turn.Full {
			t.Errorf("%s: one of a session, at %v", balancer, turn.Endpoint)
		}
		at := turns[3].Endpoint
		done(&turns[3])
		if turn := take(p); turn.Endpoint != at {
			t.Errorf("%s: not the one with room, but %v", balancer, turn.Endpoint)
		}
	}
}

func TestTheBoundFollowsTheEndpointsThatTakeRequests(t *testing.T) {
	k := bounded(plan.CircuitBreaker{EndpointMaxParallelRequests: 2})
	r := upstream.NewRegistry()
	for _, n := range []int{1, 3, 2, 0} {
		r.Prepare(pools(k, n))
		if got := r.Pool(k).Breaker.Limit(); got != uint32(2*n) {
			t.Errorf("%d endpoints: the pool takes %d", n, got)
		}
	}
}

// TestWhoIsInsideFindsAnEndpointWithRoom is the pigeonhole principle on all
// cores.
func TestWhoIsInsideFindsAnEndpointWithRoom(t *testing.T) {
	p := pool(t, bounded(plan.CircuitBreaker{EndpointMaxParallelRequests: 1, MaxPendingRequests: 100}), 4)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3000 {
				p.Breaker.Enter(time.Now(), time.Time{}, nil)
				turn := take(p)
				if turn.Endpoint == nil {
					t.Error("no endpoint")
				} else if n := turn.Endpoint.InFlight(); n > 1 {
					t.Errorf("%d at one endpoint", n)
				}
				done(&turn)
				p.Breaker.Leave()
			}
		})
	}
	wg.Wait()
}

func TestAnIdleConnectionMakesWayForANewOne(t *testing.T) {
	k := bounded(plan.CircuitBreaker{MaxConnections: 2})
	p := pool(t, k, 2)
	now := time.Now()
	a, b := connect(p), connect(p)
	if connect(p) != nil {
		t.Error("a third one while two are in use")
	}
	p.Endpoints()[0].Keep(a, now, now, 0)
	c := connect(p)
	if c == nil || p.Endpoints()[0].Idle() != 0 {
		t.Error("none although one is idle")
	}
	_ = b.Close()
	_ = b.Close() // counts once
	_ = c.Close()
	if n := p.Breaker.Connections.Load(); n != 0 {
		t.Errorf("%d connections at the end", n)
	}
}

func TestEveryWayThatAConnectionEndsIsCounted(t *testing.T) {
	k := bounded(plan.CircuitBreaker{MaxConnections: 9})
	k.Policy.Connection = plan.Connection{MaxIdlePerEndpoint: 3, IdleTimeout: time.Second}
	r := upstream.NewRegistry()
	r.Prepare(pools(k, 1))
	p := r.Pool(k)
	now := time.Now()
	e := p.Endpoints()[0]
	for range 4 {
		e.Keep(connect(p), now, now, 0)
	}
	if n := p.Breaker.Connections.Load(); n != 3 {
		t.Errorf("%d count, of which one was one too many to be kept", n)
	}
	if c, _ := e.IdleConn(now.Add(time.Minute)); c != nil || p.Breaker.Connections.Load() != 0 {
		t.Errorf("%d count after the idle timeout", p.Breaker.Connections.Load())
	}
	e.Keep(connect(p), now, now, 0)
	r.Retire(nil)
	if n := p.Breaker.Connections.Load(); n != 0 {
		t.Errorf("%d count after the pool was retired", n)
	}
	c := connect(p)
	c.Abort()
	if n := p.Breaker.Connections.Load(); n != 0 {
		t.Errorf("%d count after an abort", n)
	}
}

// TestAConnectionIsAlwaysFoundWithinTheBound has as many requests as there may
// be connections, each at an endpoint of its choice.
func TestAConnectionIsAlwaysFoundWithinTheBound(t *testing.T) {
	const n = 4
	k := bounded(plan.CircuitBreaker{MaxConnections: n, MaxPendingRequests: 100})
	k.Policy.LoadBalancing.Balancer = plan.Random
	k.Policy.Connection.IdleTimeout = 0
	p := pool(t, k, 3)
	var wg sync.WaitGroup
	for range 2 * n {
		wg.Go(func() {
			for range 500 {
				p.Breaker.Enter(time.Now(), time.Time{}, nil)
				turn, now := take(p), time.Now()
				c, _ := turn.Endpoint.IdleConn(now)
				if c == nil {
					c = connect(p)
				}
				switch {
				case c == nil:
					t.Error("no connection")
				case rand.IntN(3) == 0:
					_ = c.Close()
				default:
					turn.Endpoint.Keep(c, now, now, 0)
				}
				if open := p.Breaker.Connections.Load(); open > n {
					t.Errorf("%d connections", open)
				}
				done(&turn)
				p.Breaker.Leave()
			}
		})
	}
	wg.Wait()
}

func TestAnEditOfThePolicyKeepsThoseInside(t *testing.T) {
	two, three := bounded(plan.CircuitBreaker{MaxParallelRequests: 2}), bounded(plan.CircuitBreaker{MaxParallelRequests: 3})
	r := upstream.NewRegistry()
	r.Prepare(pools(two, 1))
	old := r.Pool(two)
	old.Breaker.TryEnter()
	old.Breaker.TryEnter()

	r.Prepare(pools(three, 1))
	next := r.Pool(three)
	if next.Breaker.Inside() != 2 || next.Breaker.Limit() != 3 {
		t.Errorf("%d inside of %d", next.Breaker.Inside(), next.Breaker.Limit())
	}
	r.Prepare(pools(two, 1)) // the plan was refused: as before
	r.Retire(pools(two, 1))
	if r.Pool(two) != old || old.Breaker.Inside() != 2 || old.Breaker.Limit() != 2 {
		t.Errorf("taken back: %d inside of %d", old.Breaker.Inside(), old.Breaker.Limit())
	}

	both := append(pools(two, 1), pools(three, 1)...)
	r.Prepare(both)
	if beside := r.Pool(three).Breaker; beside.Inside() != 0 || beside.Limit() != 3 || old.Breaker.Limit() != 2 {
		t.Errorf("beside the old one: %d inside of %d", beside.Inside(), beside.Limit())
	}
}
