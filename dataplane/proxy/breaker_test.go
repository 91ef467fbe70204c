package proxy_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// broken is onePool with a circuit breaker.
func broken(c plan.CircuitBreaker, addrs ...string) plan.Plan {
	p := onePool(addrs...)
	p.Pools[0].Key.Policy.Breaker = c
	p.Routes[0].Rules[0].Legs[0].Pool = p.Pools[0].Key
	return p
}

// thePool is the only pool there is.
func (b *bed) thePool() *upstream.Pool {
	b.t.Helper()
	all := b.reg.Pools()
	if len(all) != 1 {
		b.t.Fatalf("%d pools", len(all))
	}
	return all[0]
}

func wantStatuses(t *testing.T, peers []*peer, status int) {
	t.Helper()
	for i, p := range peers {
		if a := p.read("GET"); a.StatusCode != status {
			t.Errorf("request %d got %d %q", i, a.StatusCode, a.body)
		}
	}
}

func TestAboveTheBoundRequestsWaitInTheOrderTheyCameAndMoreGet503(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.apply(broken(plan.CircuitBreaker{MaxParallelRequests: 2, MaxPendingRequests: 2}, backendAddr))
		all := b.flying(4)
		gate := b.thePool().Breaker
		if gate.Inside() != 2 || gate.Waiting() != 2 {
			t.Errorf("%d inside, %d waiting", gate.Inside(), gate.Waiting())
		}
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		wantRefusal(t, b, a, 503, proxy.ReasonUpstreamOverflow)
		if a.Header.Get("Retry-After") == "" || b.thePool().Tally().Overflows.Load() != 1 {
			t.Error("no Retry-After, or it is not counted")
		}
		g.answer(2)
		if gate.Inside() != 2 || gate.Waiting() != 0 {
			t.Errorf("then %d inside, %d waiting", gate.Inside(), gate.Waiting())
		}
		wantStatuses(t, all[:2], 200)
		g.answer(2)
		wantStatuses(t, all[2:], 200)
		if gate.Inside() != 0 {
			t.Errorf("%d inside at the end", gate.Inside())
		}
	})
}

func TestAWaitEndsByItsAgeLimitByTheDeadlineOrWithItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		p := broken(plan.CircuitBreaker{MaxParallelRequests: 1, MaxPendingRequests: 9, MaxPendingTime: 5 * time.Second}, backendAddr)
		b.apply(p)
		first := b.flying(1)
		gate := b.thePool().Breaker

		began := time.Now()
		wantRefusal(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonUpstreamQueueTimeout)
		if took := time.Since(began); took != 5*time.Second || b.thePool().Tally().QueueTimeouts.Load() != 1 {
			t.Errorf("after %s, counted %d times", took, b.thePool().Tally().QueueTimeouts.Load())
		}

		gone := b.flying(1)[0]
		_ = gone.Close()
		time.Sleep(time.Second)
		wantRefusal(t, b, answer{Response: &http.Response{}}, 0, proxy.ReasonClientGone)
		if gate.Waiting() != 0 {
			t.Error("who is gone still waits")
		}

		route := *p.Routes[0]
		rule := route.Rules[0]
		rule.Timeouts.Request = 3 * time.Second
		route.Rules = []plan.Rule{rule}
		p.Routes = []*plan.Route{&route}
		b.apply(p)
		wantRefusal(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 504, proxy.ReasonRequestTimeout)
		g.answer(1)
		wantStatuses(t, first, 200)
	})
}

func TestARequestIsInsideUntilTheLastByteOfItsResponse(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, speaks("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 10*time.Second, 1))
		b.apply(broken(plan.CircuitBreaker{MaxParallelRequests: 1, MaxPendingRequests: 1}, backendAddr))
		all := b.flying(2)
		time.Sleep(9 * time.Second) // the head has long been there
		if gate := b.thePool().Breaker; gate.Inside() != 1 || gate.Waiting() != 1 {
			t.Errorf("%d inside, %d waiting", gate.Inside(), gate.Waiting())
		}
		wantStatuses(t, all, 200)
	})
}

func TestThePoolHasNoMoreConnectionsThanItMay(t *testing.T) {
	const other = "10.0.0.2:8080"
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.httpBackend(other, echo)
		p := broken(plan.CircuitBreaker{MaxConnections: 1, MaxPendingRequests: 10}, backendAddr, other)
		p.Pools[0].Key.Policy.LoadBalancing.Balancer = plan.RoundRobin
		p.Routes[0].Rules[0].Legs[0].Pool = p.Pools[0].Key
		b.apply(p)
		for range 4 {
			wantStatuses(t, b.flying(3), 200)
			if n := b.thePool().Breaker.Connections.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		}
		b.apply(plan.Plan{})
	})
}

func TestConnectionsThatCouldNotBeMadeDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(broken(plan.CircuitBreaker{MaxConnections: 1}, backendAddr)) // which refuses
		for range 3 {
			wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 502, proxy.ReasonConnectRefused)
		}
		if n := b.thePool().Breaker.Connections.Load(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestASessionWhoseEndpointIsFullGoesElsewhereOnceAndStays(t *testing.T) {
	const other = "10.0.0.2:8080"
	inBubble(t, func(t *testing.T, b *bed) {
		hold := make(chan struct{})
		for _, addr := range []string{backendAddr, other} {
			b.httpBackend(addr, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hold" {
					<-hold
				}
				_, _ = w.Write([]byte(addr))
			})
		}
		p := broken(plan.CircuitBreaker{EndpointMaxParallelRequests: 1}, backendAddr, other)
		p.Routes[0].Rules[0].Session = plan.Session{Cookie: "s", Key: [32]byte{1}}
		b.apply(p)
		c := b.dial()
		first := c.get("GET / HTTP/1.1", shopHost)
		cookie, _, _ := strings.Cut(first.Header.Get("Set-Cookie"), ";")
		// The answer was there before its endpoint had room again, now and then,
		// and the request that was to fill that one went elsewhere.
		synctest.Wait()
		held := b.dial()
		held.send("GET /hold HTTP/1.1\r\n" + shopHost + "\r\nCookie: " + cookie + "\r\n\r\n")
		synctest.Wait()
		second := c.get("GET / HTTP/1.1", shopHost, "Cookie: "+cookie)
		if second.StatusCode != 200 || second.body == first.body || second.Header.Get("Set-Cookie") != "" {
			t.Errorf("while it is full: %d from %s, Set-Cookie %q", second.StatusCode, second.body, second.Header.Get("Set-Cookie"))
		}
		close(hold)
		if a := held.read("GET"); a.body != first.body {
			t.Errorf("the one that filled it was at %s", a.body)
		}
		synctest.Wait() // its endpoint has room again
		if third := c.get("GET / HTTP/1.1", shopHost, "Cookie: "+cookie); third.body != first.body {
			t.Errorf("afterwards it is at %s, not at %s", third.body, first.body)
		}
	})
}

func TestAPoolThatIsFullLeavesItsShareToNobody(t *testing.T) {
	const other = "10.0.0.2:8080"
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.httpBackend(other, echo)
		p := broken(plan.CircuitBreaker{MaxParallelRequests: 1}, backendAddr)
		rest := onePool(other)
		rest.Pools[0].Key.Service = "rest"
		p.Pools = append(p.Pools, rest.Pools[0])
		r := &p.Routes[0].Rules[0]
		r.Rebalance = true
		r.Legs = append(r.Legs, plan.Leg{Weight: 0, Pool: rest.Pools[0].Key})
		b.apply(p)
		first := b.flying(1)
		wantRefusal(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonUpstreamOverflow)
		g.answer(1)
		wantStatuses(t, first, 200)
	})
}

func TestABackendThatSlowsDownUnderLoadGetsALowerLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		// One at a time, each for 10 ms: what comes on top only waits there.
		turns := make(chan struct{}, 1)
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				turns <- struct{}{}
				time.Sleep(10 * time.Millisecond)
				<-turns
				if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
					return
				}
			}
		})
		b.apply(broken(plan.CircuitBreaker{MaxPendingRequests: 100, Adaptive: plan.AdaptiveConcurrency{MinRequests: 1, MaxRequests: 100}}, backendAddr))
		gate := b.thePool().Breaker
		if gate.Limit() != 20 {
			t.Errorf("it begins with %d", gate.Limit())
		}
		stop := time.Now().Add(2 * time.Minute)
		for range 30 {
			c := b.dial()
			go func() {
				for time.Now().Before(stop) {
					c.get("GET / HTTP/1.1", shopHost)
				}
			}()
		}
		time.Sleep(3 * time.Minute)
		if gate.Limit() > 10 {
			t.Errorf("after two minutes of a queue the limit is %d", gate.Limit())
		}
	})
}

func TestARetryThatFindsNoRoomElsewhereLeavesTheAnswerAsItIs(t *testing.T) {
	const other = "10.0.0.2:8080"
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.httpBackend(other, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		p := broken(plan.CircuitBreaker{EndpointMaxParallelRequests: 1}, backendAddr, other)
		p.Pools[0].Key.Policy.LoadBalancing.Balancer = plan.FirstHealthy
		p.Pools[0].Key.Policy.RetryBudget = plan.RetryBudget{Percent: 100, Interval: time.Second, MinCount: 10, MinInterval: time.Second}
		r := &p.Routes[0].Rules[0]
		r.Legs[0].Pool = p.Pools[0].Key
		r.Retry = plan.Retry{Attempts: 3, On: plan.RetryCodes, Methods: plan.RetrySafe}
		r.Retry.Codes.Add(503, 503)
		b.apply(p)
		first := b.flying(1)
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		synctest.Wait() // a request leaves after its answer
		if a.StatusCode != 503 || a.body != "" || b.thePool().Breaker.Inside() != 1 {
			t.Errorf("%d %q with %d inside", a.StatusCode, a.body, b.thePool().Breaker.Inside())
		}
		g.answer(1)
		wantStatuses(t, first, 200)
		g.answer(1)
		if a := b.dial().get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 {
			t.Errorf("with room: %d", a.StatusCode)
		}
	})
}
