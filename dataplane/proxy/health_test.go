package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// namedBackends serve each address and answer with it.
func (b *bed) namedBackends(addrs ...string) {
	for _, a := range addrs {
		b.httpBackend(a, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, a) })
	}
}

// edit changes the one rule of onePool and the policy of its pool.
func edit(p plan.Plan, change func(r *plan.Rule, policy *plan.Policy)) plan.Plan {
	r := *p.Routes[0]
	r.Rules = []plan.Rule{r.Rules[0]}
	key := p.Pools[0].Key
	change(&r.Rules[0], &key.Policy)
	r.Rules[0].Legs = []plan.Leg{{Weight: 1, Pool: key}}
	return plan.Plan{Routes: []*plan.Route{&r}, Pools: []plan.Pool{{Key: key, Endpoints: p.Pools[0].Endpoints}}}
}

// firstFails is a plan whose requests go to 10.0.0.1 until one of them fails,
// and to 10.0.0.2 then.
func firstFails(change ...func(r *plan.Rule)) plan.Plan {
	return edit(onePool("10.0.0.1:8080", "10.0.0.2:8080"), func(r *plan.Rule, p *plan.Policy) {
		p.LoadBalancing.Balancer = plan.FirstHealthy
		p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: 30 * time.Second, MaxEjection: time.Minute}
		p.Passive.Statuses.Add(502, 504)
		for _, c := range change {
			c(r)
		}
	})
}

func TestWhatBlamesAnEndpointAndWhatDoesNot(t *testing.T) {
	const get = "GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n"
	says := func(s string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, s)
		}
	}
	hangs := func(s string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			says(s)(c, r)
			_, _ = io.Copy(io.Discard, r)
		}
	}
	upload := "POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 10\r\n\r\nhel"
	requestTimeout := func(r *plan.Rule) { r.Timeouts.Request = 10 * time.Second }
	for _, tc := range []struct {
		name, request string
		backend       func(net.Conn, *bufio.Reader) // nil: it refuses
		change        func(r *plan.Rule)
		leave         time.Duration // the client goes after it
		reason        string
		blamed        bool
	}{
		{"refused", get, nil, nil, 0, "connect_refused", true},
		{"reset", get, says(""), nil, 0, "upstream_reset", true},
		{"silent", get, hangs(""), nil, 0, "response_header_timeout", true},
		{"garbage", get, says("nonsense\r\n\r\n"), nil, 0, "invalid_response", true},
		{"cut", get, says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"), nil, 0, "response_cut", true},
		{"stops in the body", get, hangs("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"), nil, 0, "response_body_timeout", true},
		{"503", get, says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), nil, 0, "ok", true},
		{"500", get, says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"), nil, 0, "ok", false},
		{"200", get, says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nil, 0, "ok", false},
		{"silent until the request's time is over", get, hangs(""), requestTimeout, 0, "request_timeout", true},
		{"the client is silent until then", upload, hangs(""), requestTimeout, 0, "request_timeout", false},
		{"the client stops in the body", upload, hangs(""), nil, 0, "request_body_timeout", false},
		{"the client goes while it waits", get, hangs(""), nil, 5 * time.Second, "client_gone", false},
		{"the client goes in the body", get, hangs("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"), nil, 5 * time.Second, "client_gone", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				if tc.backend != nil {
					b.backend("10.0.0.1:8080", tc.backend)
				}
				p := firstFails()
				if tc.change != nil {
					p = firstFails(tc.change)
				}
				b.apply(p)
				c := b.dial()
				c.send(tc.request)
				if tc.leave > 0 {
					time.Sleep(tc.leave)
					_ = c.Close()
				}
				time.Sleep(2 * time.Minute)
				if r := b.sink.last(t); r.Reason.String() != tc.reason {
					t.Fatalf("reason %s, want %s", r.Reason, tc.reason)
				}
				pool := b.reg.Pool(p.Pools[0].Key)
				v := pool.View(pool.Endpoints()[0], time.Now())
				if (v.State == "ejected") != tc.blamed {
					t.Errorf("the endpoint is %s (%s)", v.State, v.Why)
				}
				if n := pool.Endpoints()[0].InFlight(); n != 0 {
					t.Errorf("%d in flight", n)
				}
			})
		})
	}
}

func TestAnEndpointThatWasEjectedIsNotAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(firstFails())
		if got := b.dial().get("GET / HTTP/1.1", shopHost); got.StatusCode != 502 {
			t.Errorf("%d", got.StatusCode)
		}
		synctest.Wait() // a request ends after its answer
		b.namedBackends("10.0.0.2:8080")
		if got := b.dial().get("GET / HTTP/1.1", shopHost); got.body != "10.0.0.2:8080" {
			t.Errorf("after its ejection: %d %q", got.StatusCode, got.body)
		}
	})
}

// legs is a plan of one rule with a leg for each pool, by weight.
func legs(rebalance bool, weights []uint32, pools ...[]string) plan.Plan {
	p := onePool()
	p.Pools = nil
	rule := &p.Routes[0].Rules[0]
	rule.Legs, rule.Rebalance = nil, rebalance
	for i, addrs := range pools {
		one := onePool(addrs...).Pools[0]
		one.Key.Service = fmt.Sprintf("leg%d", i)
		rule.Legs = append(rule.Legs, plan.Leg{Weight: weights[i], Pool: one.Key})
		p.Pools = append(p.Pools, one)
	}
	return p
}

// count sends requests and counts their answers by body, or by status where
// that is not 200.
func (b *bed) count(n int, lines ...string) map[string]int {
	got := map[string]int{}
	c := b.dial()
	for range n {
		a := c.get(append([]string{"GET / HTTP/1.1", shopHost}, lines...)...)
		if a.StatusCode == 200 {
			got[a.body]++
		} else {
			got[a.Status]++
		}
	}
	return got
}

func TestALegWithoutEndpointsIsAnsweredWith503OrLeavesItsShare(t *testing.T) {
	const n = 2000
	weights := []uint32{50, 30, 20}
	near := func(t *testing.T, got map[string]int, key string, share float64) {
		t.Helper()
		if d := float64(got[key])/n - share; d > 0.06 || d < -0.06 {
			t.Errorf("%s: %d of %d, want %.2f", key, got[key], n, share)
		}
	}
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends("10.0.0.1:80", "10.0.0.3:80")
		b.apply(legs(false, weights, []string{"10.0.0.1:80"}, nil, []string{"10.0.0.3:80"}))
		got := b.count(n)
		near(t, got, "503 Service Unavailable", 0.3)
		near(t, got, "10.0.0.1:80", 0.5)

		b.apply(legs(true, weights, []string{"10.0.0.1:80"}, nil, []string{"10.0.0.3:80"}))
		got = b.count(n)
		near(t, got, "503 Service Unavailable", 0)
		near(t, got, "10.0.0.1:80", 50.0/70)
		near(t, got, "10.0.0.3:80", 20.0/70)

		p := legs(true, weights, nil, nil, []string{"10.0.0.3:80"})
		p.Routes[0].Rules[0].Legs[0].Invalid = "Service shop/web does not exist"
		b.apply(p)
		near(t, b.count(n), "10.0.0.3:80", 1)

		b.apply(legs(true, weights, nil, nil, nil))
		near(t, b.count(n), "503 Service Unavailable", 1)
	})
}

func TestTheKeyOfAHashIsTakenFromWhereThePolicySays(t *testing.T) {
	addrs := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"}
	for _, tc := range []struct {
		name    string
		key     plan.HashKey
		request func(i int) (target, field string)
	}{
		{"header", plan.HashKey{Source: plan.HashHeader, Name: "x-user"}, func(i int) (string, string) { return "/", fmt.Sprint("X-User: ", i) }},
		{"cookie", plan.HashKey{Source: plan.HashCookie, Name: "user"}, func(i int) (string, string) { return "/", fmt.Sprintf("Cookie: a=1; user=%d; b=2", i) }},
		{"query", plan.HashKey{Source: plan.HashQueryParam, Name: "user"}, func(i int) (string, string) { return fmt.Sprintf("/?a=1&user=%d", i), "X-A: 1" }},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.namedBackends(addrs...)
			b.apply(edit(onePool(addrs...), func(_ *plan.Rule, p *plan.Policy) {
				p.LoadBalancing.Balancer, p.LoadBalancing.Hash = plan.ConsistentHash, tc.key
			}))
			c := b.dial()
			all := map[string]bool{}
			for i := range 50 {
				target, field := tc.request(i)
				first := c.get("GET "+target+" HTTP/1.1", shopHost, field).body
				for range 5 {
					if again := c.get("GET "+target+" HTTP/1.1", shopHost, field).body; again != first {
						t.Fatalf("%s: key %d went to %s and to %s", tc.name, i, first, again)
					}
				}
				all[first] = true
			}
			if len(all) != len(addrs) {
				t.Errorf("%s: 50 keys went to %d endpoints", tc.name, len(all))
			}
			none := map[string]bool{}
			for range 100 {
				none[c.get("GET / HTTP/1.1", shopHost).body] = true
			}
			if len(none) != len(addrs) {
				t.Errorf("%s: requests without a key go to %d endpoints", tc.name, len(none))
			}
		})
	}
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(addrs...)
		b.apply(edit(onePool(addrs...), func(_ *plan.Rule, p *plan.Policy) { p.LoadBalancing.Balancer = plan.ConsistentHash }))
		if got := b.count(50); len(got) != 1 {
			t.Errorf("one client's address went to %v", got)
		}
	})
}

func TestExplainShowsTheStateOfEachEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.apply(firstFails())
		b.dial().get("GET / HTTP/1.1", shopHost)
		synctest.Wait()
		x := proxy.ExplainPool(b.reg.Pools()[0])
		first := x[0]
		if first.State != "ejected" || first.Eligible || first.Reason == "" || first.Since.IsZero() || first.Until.Before(first.Since) ||
			!strings.Contains(first.Why, "connect_refused") || !strings.Contains(first.Why, "a request tries it at ") {
			t.Errorf("%+v", first)
		}
		if second := x[1]; second.State != "serving" || !second.Eligible || second.Why != "" {
			t.Errorf("%+v", second)
		}
		time.Sleep(time.Minute)
		if first := proxy.ExplainPool(b.reg.Pools()[0])[0]; !first.Eligible || first.Why != "its ejection is over: the next request tries it" {
			t.Errorf("%+v", first)
		}
	})
}
