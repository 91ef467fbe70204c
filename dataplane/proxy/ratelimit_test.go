package proxy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// rated is onePool with rate limits.
func rated(limits ...plan.RateLimit) plan.Plan {
	p := onePool(backendAddr)
	for _, l := range limits {
		p.Routes[0].Rules[0].Filters = append(p.Routes[0].Rules[0].Filters, plan.Filter{Type: plan.FilterRateLimit, RateLimit: l})
	}
	return p
}

func perMinute(n uint32, by plan.LimitSource, name string) plan.RateLimit {
	return plan.RateLimit{Requests: n, Period: time.Minute, Burst: n, Key: plan.LimitKey{Source: by, Name: name}}
}

func TestAboveTheRateRequestsGet429AndAreToldWhenToComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(rated(plan.RateLimit{Requests: 6, Period: time.Minute, Burst: 3}))
		c := b.dial()
		wantRate := func(a answer, status int, rate, retryAfter string) {
			t.Helper()
			if a.StatusCode != status || a.Header.Get("RateLimit") != rate || a.Header.Get("Retry-After") != retryAfter ||
				a.Header.Get("RateLimit-Policy") != `"default";q=6;w=60` {
				t.Errorf("%d with RateLimit %q, Retry-After %q, RateLimit-Policy %q; want %d, %q, %q", a.StatusCode,
					a.Header.Get("RateLimit"), a.Header.Get("Retry-After"), a.Header.Get("RateLimit-Policy"), status, rate, retryAfter)
			}
		}
		get := func() answer { return c.get("GET / HTTP/1.1", shopHost) }
		wantRate(get(), 200, `"default";r=2;t=10`, "")
		wantRate(get(), 200, `"default";r=1;t=20`, "")
		wantRate(get(), 200, `"default";r=0;t=30`, "")
		time.Sleep(2500 * time.Millisecond)
		a := get()
		wantRate(a, 429, `"default";r=0;t=28`, "8")
		wantFailure(t, b, a, 429, proxy.ReasonRateLimited)
		time.Sleep(8 * time.Second)
		wantRate(get(), 200, `"default";r=0;t=30`, "")
		time.Sleep(time.Hour)
		c = b.dial() // the old one was idle for too long
		wantRate(get(), 200, `"default";r=2;t=10`, "")
	})
}

func TestWhoHasAnotherKeyHasAnotherLimit(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit       plan.RateLimit
		one, other  string // fields
		sharesOther bool
	}{
		{"header", perMinute(1, plan.LimitByHeader, "x-user"), "X-User: a", "X-User: b", false},
		{"no header", perMinute(1, plan.LimitByHeader, "x-user"), "X-User: a", "Accept: b", false},
		{"nobody has the header", perMinute(1, plan.LimitByHeader, "x-user"), "Accept: a", "Accept: b", true},
		{"cookie", perMinute(1, plan.LimitByCookie, "s"), "Cookie: t=0; s=a", "Cookie: s=b; t=0", false},
		{"the same cookie", perMinute(1, plan.LimitByCookie, "s"), "Cookie: t=0; s=a", "Cookie: s=a; t=1", true},
		{"route", perMinute(1, plan.LimitByRoute, ""), "X-User: a", "X-User: b", true},
		{"one client", perMinute(1, plan.LimitByClientIP, ""), "X-User: a", "X-User: b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.httpBackend(backendAddr, echo)
				b.apply(rated(c.limit))
				p := b.dial()
				want := 200
				if c.sharesOther {
					want = 429
				}
				for i, r := range []struct {
					field  string
					status int
				}{{c.one, 200}, {c.one, 429}, {c.other, want}} {
					if a := p.get("GET / HTTP/1.1", shopHost, r.field); a.StatusCode != r.status {
						t.Errorf("request %d, with %s: %d, want %d", i, r.field, a.StatusCode, r.status)
					}
				}
			})
		})
	}
}

func TestAClientOfIPv6IsItsNetworkOf64Bits(t *testing.T) {
	peers := proxy.Prefixes{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0")}
	inTrustingBubble(t, peers, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(rated(perMinute(1, plan.LimitByClientIP, "")))
		p := b.dial()
		for _, r := range []struct {
			client string
			status int
		}{
			{"2001:db8:0:1::1", 200}, {"2001:db8:0:1:ffff::2", 429}, {"2001:db8:0:2::1", 200},
			{"203.0.113.1", 200}, {"203.0.113.2", 200}, {"203.0.113.1", 429},
		} {
			if a := p.get("GET / HTTP/1.1", shopHost, "X-Forwarded-For: "+r.client); a.StatusCode != r.status {
				t.Errorf("%s got %d, want %d", r.client, a.StatusCode, r.status)
			}
		}
	})
}

func TestADryRunOnlyCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		l := perMinute(1, plan.LimitByRoute, "")
		l.DryRun = true
		b.apply(rated(l))
		c := b.dial()
		for i, would := range []bool{false, true, true} {
			a := c.get("GET / HTTP/1.1", shopHost)
			if a.StatusCode != 200 || a.Header.Get("RateLimit") != "" || a.Header.Get("RateLimit-Policy") != "" {
				t.Errorf("request %d: %d, %v", i, a.StatusCode, a.Header)
			}
			if r := b.sink.last(t); r.WouldLimit != would {
				t.Errorf("request %d: would limit = %t", i, r.WouldLimit)
			}
		}
	})
}

func TestOfSeveralLimitsTheClientIsToldOfTheOneItMeetsFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(rated(perMinute(5, plan.LimitByRoute, ""), perMinute(2, plan.LimitByClientIP, ""), perMinute(4, plan.LimitByRoute, "")))
		c := b.dial()
		for i, want := range []string{`"default-2";r=1;t=30`, `"default-2";r=0;t=60`, `"default-2";r=0;t=60`} {
			a := c.get("GET / HTTP/1.1", shopHost)
			if got := a.Header.Get("RateLimit"); got != want {
				t.Errorf("request %d: RateLimit %q, want %q", i, got, want)
			}
			if got := a.Header.Get("RateLimit-Policy"); got != `"default";q=5;w=60, "default-2";q=2;w=60, "default-3";q=4;w=60` {
				t.Errorf("RateLimit-Policy %q", got)
			}
		}
	})
}

func TestWhatWasTakenOutlivesASwapUntilTheLimitChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		c := b.dial()
		get := func(want int) {
			t.Helper()
			if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != want {
				t.Errorf("got %d, want %d", a.StatusCode, want)
			}
		}
		two := perMinute(2, plan.LimitByRoute, "")
		b.apply(rated(two))
		get(200)
		get(200)
		b.apply(rated(two)) // new pointers, the same rule
		get(429)
		b.apply(rated(perMinute(3, plan.LimitByRoute, "")))
		get(200)
	})
}

// What a rate limit's keys took was gone with the last table that had it: now they
// are of one budget, and who leaves has to give them back.
func TestALimitThatAPlanDoesNotHaveAnyMoreGivesItsKeysBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		c := b.dial()
		l := perMinute(1, plan.LimitByHeader, "x-user")
		flood := func(status int) {
			t.Helper()
			for i := range 500 {
				if a := c.get("GET / HTTP/1.1", shopHost, fmt.Sprintf("X-User: %d", i)); a.StatusCode != status {
					t.Fatalf("user %d: %d", i, a.StatusCode)
				}
			}
		}
		b.apply(rated(l))
		flood(200)
		if n := b.proxy.RateKeys(); n < 500-64 {
			t.Errorf("500 keys have taken %d", n)
		}
		b.apply(rated(l))
		flood(429)
		b.apply(rated(l, l))
		flood(429)
		b.apply(onePool(backendAddr))
		if n := b.proxy.RateKeys(); n != 0 {
			t.Errorf("nobody has %d keys", n)
		}
	})
}

func TestALimitOfTheClusterIsDividedAmongTheReplicas(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		whole, part := perMinute(6, plan.LimitByHeader, "a"), perMinute(6, plan.LimitByHeader, "b")
		part.Cluster = true
		c := b.dial()
		allowed := func() (n int) {
			for c.get("GET / HTTP/1.1", shopHost).StatusCode == 200 {
				n++
			}
			time.Sleep(59 * time.Second)
			c = b.dial()
			time.Sleep(time.Second) // all buckets are full again
			return n
		}
		b.apply(rated(part))
		for _, step := range []struct{ replicas, want int }{{1, 6}, {3, 2}, {2, 3}, {0, 6}, {100, 1}} {
			b.proxy.SetReplicas(step.replicas)
			if n := allowed(); n != step.want {
				t.Errorf("with %d replicas %d were let through, want %d", step.replicas, n, step.want)
			}
		}
		b.apply(rated(whole))
		if n := allowed(); n != 6 {
			t.Errorf("of one for each replica: %d, want 6", n)
		}
	})
}

func TestAFloodIsRefusedBeforeItCountsAsInFlightOrReachesABackend(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		asked := 0
		b.httpBackend(backendAddr, func(http.ResponseWriter, *http.Request) { asked++ })
		p := rated(perMinute(2, plan.LimitByRoute, ""))
		p.Routes[0].Rules[0].Limits.MaxInFlight = 1
		b.apply(p)
		c := b.dial()
		statuses := ""
		for range 5 {
			statuses += fmt.Sprint(c.get("GET / HTTP/1.1", shopHost).StatusCode, " ")
		}
		if statuses != "200 200 429 429 429 " || asked != 2 {
			t.Errorf("%s; the backend was asked %d times", statuses, asked)
		}
	})
}

func TestExplainNamesTheLimitsOfTheRule(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := broken(plan.CircuitBreaker{MaxParallelRequests: 7}, backendAddr)
		r := &p.Routes[0].Rules[0]
		r.Limits.MaxInFlight = 5
		l := perMinute(3, plan.LimitByHeader, "x-user")
		l.DryRun = true
		r.Filters = []plan.Filter{{Type: plan.FilterRateLimit, RateLimit: l}}
		b.apply(p)
		x, err := b.proxy.Explain(proxy.Query{Method: "GET", URL: "http://shop.example.com/"})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"RateLimit by Header x-user: 3 per 1m0s, burst 3; dry run",
			"maxInFlight: 5, of which 0 are under way",
			"circuitBreaker of shop/web:80: 0 requests under way of 7, 0 wait",
		}
		if fmt.Sprint(x.Limits) != fmt.Sprint(want) {
			t.Errorf("%q, want %q", x.Limits, want)
		}
	})
}
