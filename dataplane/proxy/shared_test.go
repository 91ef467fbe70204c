package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// counter is buckets that are shared with somebody who takes from them, too.
type counter struct {
	mu    sync.Mutex
	down  bool
	slow  time.Duration
	says  limit.Verdict
	asked []string
	waits []time.Duration // since the request took its first token
}

func (c *counter) Take(name string, r limit.Rate, key []byte, began, now time.Time) (limit.Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, fmt.Sprintf("%s %v %q", name, r, key))
	c.waits = append(c.waits, now.Sub(began))
	time.Sleep(c.slow)
	return c.says, !c.down
}

func (c *counter) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.down
}

// set changes what the counter says.
func (c *counter) set(down bool, says limit.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.says = down, says
}

// shareBubble is inBubble with a proxy that has a counter.
func shareBubble(t *testing.T, c *counter, f func(t *testing.T, b *bed)) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bed) {
		b.restart(func(config *proxy.Config) { config.Shared = c })
		b.httpBackend(backendAddr, echo)
		f(t, b)
	})
}

func ofCluster(l plan.RateLimit) plan.RateLimit {
	l.Cluster = true
	return l
}

func TestALimitOfTheClusterGoesByWhatTheSharedCounterSays(t *testing.T) {
	c := &counter{}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		b.apply(rated(ofCluster(perMinute(6, plan.LimitByHeader, "x-user"))))
		p := b.dial()
		c.set(false, limit.Verdict{OK: true, Remaining: 40, Reset: 1500 * time.Millisecond})
		for range 20 { // more than it would let through by itself
			a := p.get("GET / HTTP/1.1", shopHost, "X-User: a")
			if a.StatusCode != 200 || a.Header.Get("RateLimit") != `"default";r=40;t=2` || a.Header.Get("RateLimit-Policy") != `"default";q=6;w=60` {
				t.Errorf("%d %v", a.StatusCode, a.Header)
			}
		}
		c.set(false, limit.Verdict{Reset: time.Minute, RetryAfter: 7100 * time.Millisecond})
		a := p.get("GET / HTTP/1.1", shopHost, "X-User: a")
		wantFailure(t, b, a, 429, proxy.ReasonRateLimited)
		if a.Header.Get("Retry-After") != "8" || a.Header.Get("RateLimit") != `"default";r=0;t=60` {
			t.Errorf("%v", a.Header)
		}
		if want := `shop/shop/all/0:6/1m0s/6:Header=x-user {6 1m0s 6} "a"`; c.asked[0] != want || len(c.asked) != 21 {
			t.Errorf("asked %d times for %s, want %s", len(c.asked), c.asked[0], want)
		}
	})
}

func TestWithoutTheSharedCounterEachReplicaLetsItsPartThrough(t *testing.T) {
	c := &counter{down: true}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		b.proxy.SetReplicas(3)
		b.apply(rated(ofCluster(perMinute(6, plan.LimitByRoute, ""))))
		p := b.dial()
		statuses := func(n int) (s string) {
			for range n {
				s += fmt.Sprint(p.get("GET / HTTP/1.1", shopHost).StatusCode, " ")
			}
			return s
		}
		if got := statuses(4); got != "200 200 429 429 " {
			t.Errorf("a third of six: %s", got)
		}
		c.set(false, limit.Verdict{OK: true})
		if got := statuses(3); got != "200 200 200 " {
			t.Errorf("with the counter again: %s", got)
		}
		time.Sleep(time.Minute) // in which both come back
		if got := statuses(2); got != "200 200 " {
			t.Errorf("a minute later: %s", got)
		}
		c.set(true, limit.Verdict{})
		if got := statuses(1); got != "429 " {
			t.Errorf("what went through was taken from the own part, too: %s", got)
		}
	})
}

func TestNobodyIsAskedForALimitOfTheReplica(t *testing.T) {
	c := &counter{}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		b.apply(rated(perMinute(1, plan.LimitByRoute, "")))
		if a := b.dial().get("GET / HTTP/1.1", shopHost); a.StatusCode != 200 || len(c.asked) > 0 {
			t.Errorf("%d, asked for %q", a.StatusCode, c.asked)
		}
	})
}

func TestADryRunOfASharedLimitOnlyCounts(t *testing.T) {
	c := &counter{says: limit.Verdict{RetryAfter: time.Second}}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		l := ofCluster(perMinute(1, plan.LimitByRoute, ""))
		l.DryRun = true
		b.apply(rated(l))
		a := b.dial().get("GET / HTTP/1.1", shopHost)
		if a.StatusCode != 200 || a.Header.Get("RateLimit") != "" || !b.sink.last(t).WouldLimit || len(c.asked) != 1 {
			t.Errorf("%d %v, asked %d times", a.StatusCode, a.Header, len(c.asked))
		}
	})
}

func TestWaitingForTheSharedCounterCountsForTheRequestTimeout(t *testing.T) {
	c := &counter{says: limit.Verdict{OK: true}, slow: 30 * time.Millisecond}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		p := rated(ofCluster(perMinute(1, plan.LimitByRoute, "")))
		p.Routes[0].Rules[0].Timeouts.Request = 20 * time.Millisecond
		b.apply(p)
		wantFailure(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 504, proxy.ReasonRequestTimeout)
	})
}

// Each limit of a rule waited for the shared counter as long as if it was the only one.
func TestTheSharedCounterKnowsHowLongTheLimitsOfARequestHaveWaited(t *testing.T) {
	c := &counter{says: limit.Verdict{OK: true}, slow: 30 * time.Millisecond}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		own, all := perMinute(6, plan.LimitByRoute, ""), ofCluster(perMinute(6, plan.LimitByRoute, ""))
		b.apply(rated(own, all, all, own, all))
		p := b.dial()
		for range 2 {
			p.get("GET / HTTP/1.1", shopHost)
			time.Sleep(time.Minute)
		}
		if got := fmt.Sprint(c.waits); got != "[0s 30ms 60ms 0s 30ms 60ms]" {
			t.Errorf("they had waited %s", got)
		}
	})
}

func TestLimitsWithAnotherRateOrPlaceHaveOtherSharedBuckets(t *testing.T) {
	c := &counter{says: limit.Verdict{OK: true}}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		six := ofCluster(perMinute(6, plan.LimitByRoute, ""))
		five, bursty, other := six, six, six
		five.Requests, bursty.Burst, other.Key.Source = 5, 9, plan.LimitByClientIP
		b.apply(rated(six, six, five, bursty, other))
		b.dial().get("GET / HTTP/1.1", shopHost)
		names := map[string]bool{}
		for _, a := range c.asked {
			name, _, _ := strings.Cut(a, " ")
			names[name] = true
		}
		if len(names) != 5 {
			t.Errorf("five limits share buckets: %q", c.asked)
		}
	})
}

func TestExplainTellsHowALimitOfTheClusterIsKept(t *testing.T) {
	c := &counter{}
	shareBubble(t, c, func(t *testing.T, b *bed) {
		b.proxy.SetReplicas(3)
		b.apply(rated(ofCluster(perMinute(6, plan.LimitByRoute, ""))))
		want := func(words string) {
			t.Helper()
			x, err := b.proxy.Explain(proxy.Query{Method: "GET", URL: "http://shop.example.com/"})
			if err != nil || len(x.Limits) != 1 || x.Limits[0] != "RateLimit by Route: 6 per 1m0s, burst 6, "+words {
				t.Errorf("%q, %v", x.Limits, err)
			}
		}
		want("counted by all replicas together")
		c.set(true, limit.Verdict{})
		want("divided among 3 replicas: what counts for all of them cannot be reached")
		b.restart(func(config *proxy.Config) { config.Shared = nil })
		b.proxy.Publish(b.table)
		want("for all replicas together")
		b.proxy.SetReplicas(2)
		want("divided among 2 replicas")
	})
}
