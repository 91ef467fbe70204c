package proxy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

var sessionAddrs = []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[2001:db8::1]:80"}

// withSession is a pool of the addresses whose rule has sessions.
func withSession(lifetime time.Duration, addrs ...string) plan.Plan {
	return edit(onePool(addrs...), func(r *plan.Rule, p *plan.Policy) {
		r.Session = plan.Session{Cookie: "ferrum", Lifetime: lifetime, Key: [32]byte{1, 2, 3}}
		p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: time.Hour, MaxEjectedPercent: 50}
		p.Passive.Statuses.Add(503, 503)
	})
}

// begin sends a request without a cookie and returns the endpoint and the cookie
// of the session.
func (p *peer) begin() (endpoint, cookie string) {
	p.t.Helper()
	a := p.get("GET / HTTP/1.1", shopHost)
	set := a.Header["Set-Cookie"]
	if a.StatusCode != 200 || len(set) != 1 {
		p.t.Fatalf("%d with %q", a.StatusCode, set)
	}
	cookie, _, _ = strings.Cut(set[0], ";")
	return a.body, cookie
}

// wantStay sends requests of a session that must all go to one endpoint, which
// tells of no other session.
func (p *peer) wantStay(endpoint, cookie string) {
	p.t.Helper()
	for range 20 {
		a := p.get("GET / HTTP/1.1", shopHost, "Cookie: other=1; "+cookie+"; more=2")
		if a.body != endpoint || a.Header.Get("Set-Cookie") != "" {
			p.t.Fatalf("the session of %s went to %s (%d), Set-Cookie %q", endpoint, a.body, a.StatusCode, a.Header.Get("Set-Cookie"))
		}
	}
}

// wantNew sends a request of a session that has to begin anew.
func (p *peer) wantNew(cookie string) (endpoint, next string) {
	p.t.Helper()
	a := p.get("GET / HTTP/1.1", shopHost, "Cookie: "+cookie)
	next, _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
	if a.StatusCode != 200 || next == "" || next == cookie {
		p.t.Fatalf("%d from %s, Set-Cookie %q", a.StatusCode, a.body, next)
	}
	return a.body, next
}

func TestASessionStaysAtItsEndpointWhateverIsAddedOrSwapped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(sessionAddrs...)
		b.namedBackends("10.0.0.4:80")
		b.apply(withSession(0, sessionAddrs...))
		c := b.dial()
		seen := map[string]bool{}
		for len(seen) < len(sessionAddrs) {
			endpoint, cookie := c.begin()
			if seen[endpoint] {
				continue
			}
			seen[endpoint] = true
			c.wantStay(endpoint, cookie)
			more := withSession(0, append([]string{"10.0.0.4:80"}, sessionAddrs...)...)
			b.apply(more)
			c.wantStay(endpoint, cookie)
			b.apply(edit(more, func(_ *plan.Rule, p *plan.Policy) { p.LoadBalancing.Balancer = plan.Random }))
			c.wantStay(endpoint, cookie)
			b.apply(withSession(0, sessionAddrs...))
		}
	})
}

func TestASessionEndsWithItsEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(sessionAddrs...)
		b.apply(withSession(0, sessionAddrs...))
		c := b.dial()
		endpoint, cookie := c.begin()
		at := slices.Index(sessionAddrs, endpoint)

		draining := withSession(0, sessionAddrs...)
		draining.Pools[0].Endpoints[at].State = plan.Draining
		b.apply(draining)
		c.wantStay(endpoint, cookie) // it finishes what it has

		b.apply(withSession(0, slices.Delete(slices.Clone(sessionAddrs), at, at+1)...))
		other, next := c.wantNew(cookie)
		if other == endpoint {
			t.Error("it is gone")
		}
		c.wantStay(other, next)
	})
}

func TestASessionLeavesAnEndpointThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		broken := ""
		for _, a := range sessionAddrs {
			b.httpBackend(a, func(w http.ResponseWriter, _ *http.Request) {
				if a == broken {
					w.WriteHeader(503)
				}
				_, _ = w.Write([]byte(a))
			})
		}
		b.apply(withSession(0, sessionAddrs...))
		c := b.dial()
		endpoint, cookie := c.begin()
		broken = endpoint
		if a := c.get("GET / HTTP/1.1", shopHost, "Cookie: "+cookie); a.StatusCode != 503 {
			t.Fatal(a.Status)
		}
		if other, _ := c.wantNew(cookie); other == endpoint {
			t.Error("an ejected endpoint keeps its sessions")
		}
	})
}

func TestASessionCookieSaysWhatItMustAndNotWhereItGoes(t *testing.T) {
	for lifetime, want := range map[time.Duration]string{
		0:         "; Path=/; HttpOnly; SameSite=Lax",
		time.Hour: "; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600",
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.namedBackends(sessionAddrs...)
			b.apply(withSession(lifetime, sessionAddrs[0]))
			c := b.dial()
			set := c.get("GET / HTTP/1.1", shopHost).Header.Get("Set-Cookie")
			name, rest, _ := strings.Cut(set, "=")
			value, attributes, _ := strings.Cut(rest, ";")
			if name != "ferrum" || ";"+attributes != want || strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("%q", set)
			}
			_, again := c.begin()
			if again == "ferrum="+value {
				t.Error("two sessions of an endpoint have the same cookie")
			}
		})
	}
}

func TestASessionEndsAfterItsLifetimeWhateverHappensInIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(sessionAddrs...)
		b.apply(withSession(time.Hour, sessionAddrs...))
		endpoint, cookie := b.dial().begin()
		for range 5 {
			time.Sleep(11 * time.Minute)
			b.dial().wantStay(endpoint, cookie)
		}
		time.Sleep(6 * time.Minute)
		b.dial().wantNew(cookie)
	})
}

func TestACookieThatDoesNotOpenIsIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(sessionAddrs...)
		b.apply(withSession(0, sessionAddrs...))
		c := b.dial()
		_, cookie := c.begin()
		flipped := []byte(cookie)
		flipped[20] ^= 1
		for _, bad := range []string{
			"ferrum=", "ferrum=10.0.0.1:80", "ferrum=" + strings.Repeat("A", 5000), "ferrum=!!!", string(flipped),
			cookie[:len(cookie)-4], "other" + cookie[6:], cookie + "AAAA",
		} {
			c.wantNew(bad)
		}
		// Of another key, as of a replica that is not one of ours.
		foreign := withSession(0, sessionAddrs...)
		foreign.Routes[0].Rules[0].Session.Key[31] = 9
		b.apply(foreign)
		c.wantNew(cookie)
	})
}

func TestASessionStaysWithItsLegUntilThatGetsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
		plans := func(canary uint32, addrs ...string) plan.Plan {
			p := legs(false, []uint32{99, canary}, []string{"10.0.0.1:80"}, addrs)
			p.Routes[0].Rules[0].Session = plan.Session{Cookie: "ferrum", Key: [32]byte{7}}
			return p
		}
		b.apply(plans(1000, "10.0.0.2:80"))
		c := b.dial()
		endpoint, cookie := c.begin()
		for endpoint != "10.0.0.2:80" {
			endpoint, cookie = c.begin()
		}
		b.apply(plans(1, "10.0.0.2:80"))
		c.wantStay(endpoint, cookie)
		b.apply(plans(1, "10.0.0.3:80")) // the endpoint is gone, the leg is not
		if other, _ := c.wantNew(cookie); other != "10.0.0.3:80" {
			t.Errorf("the session left its leg for %s", other)
		}
		b.apply(plans(0, "10.0.0.2:80"))
		if other, _ := c.wantNew(cookie); other != "10.0.0.1:80" {
			t.Errorf("a leg of weight 0 got a request: %s", other)
		}
	})
}

func TestWithoutASessionNoCookieIsSet(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.namedBackends(sessionAddrs...)
		b.apply(onePool(sessionAddrs...))
		if a := b.dial().get("GET / HTTP/1.1", shopHost, "Cookie: ferrum=x"); a.Header.Get("Set-Cookie") != "" {
			t.Error(a.Header.Get("Set-Cookie"))
		}
	})
}
