package proxy_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

const getShop = "GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n"

// gated is a backend that answers when it is told to.
type gated struct{ open chan struct{} }

func newGated(b *bed, addr string) *gated {
	g := &gated{make(chan struct{}, 1000)}
	b.httpBackend(addr, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-g.open:
		case <-r.Context().Done():
		}
	})
	return g
}

// answer lets n requests go.
func (g *gated) answer(n int) {
	for range n {
		g.open <- struct{}{}
	}
	synctest.Wait()
}

// flying sends a request each on n connections and returns when they have come
// to rest.
func (b *bed) flying(n int) []*peer {
	peers := make([]*peer, n)
	for i := range peers {
		peers[i] = b.dial()
		peers[i].send(getShop)
		synctest.Wait()
	}
	return peers
}

// limited is onePool with another limit of requests in flight.
func limited(n uint32) plan.Plan {
	return tuned(func(_ *plan.Timeouts, l *plan.Limits) { l.MaxInFlight = n })
}

func TestARequestAboveMaxInFlightGets503WithRetryAfterAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.apply(limited(2))
		began := time.Now()
		all := b.flying(2)
		third := b.dial()
		a := third.get("GET / HTTP/1.1", shopHost)
		wantRefusal(t, b, a, 503, proxy.ReasonTooManyInFlight)
		if a.Header.Get("Retry-After") == "" || time.Since(began) != 0 {
			t.Errorf("Retry-After %q, after %s", a.Header.Get("Retry-After"), time.Since(began))
		}
		g.answer(1)
		all = append(all, third)
		third.send(getShop) // the same connection goes on
		synctest.Wait()
		g.answer(2)
		for i, p := range all {
			if a := p.read("GET"); a.StatusCode != 200 {
				t.Errorf("request %d got %d", i, a.StatusCode)
			}
		}
		if r := b.sink.last(t); r.Reason != proxy.ReasonOK {
			t.Errorf("the last one ended with %s", r.Reason)
		}
	})
}

// wantRefusal is wantFailure while other requests are under way.
func wantRefusal(t *testing.T, b *bed, a answer, status int, reason proxy.Reason) {
	t.Helper()
	synctest.Wait()
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	if len(b.sink.records) == 0 {
		t.Fatal("nothing was recorded")
	}
	r := b.sink.records[len(b.sink.records)-1]
	if a.StatusCode != status || r.Status != status || r.Reason != reason || r.Endpoint.IsValid() {
		t.Errorf("answered %d; recorded %d %s of endpoint %s; want %d %s of none", a.StatusCode, r.Status, r.Reason, r.Endpoint, status, reason)
	}
}

func TestRequestsInFlightAreCountedAcrossTables(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.apply(limited(2))
		all := b.flying(2)
		b.apply(limited(3)) // another route by the pointer, the same by its name
		all = append(all, b.flying(1)...)
		wantRefusal(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonTooManyInFlight)
		b.apply(limited(1))
		g.answer(2)
		wantRefusal(t, b, b.dial().get("GET / HTTP/1.1", shopHost), 503, proxy.ReasonTooManyInFlight)
		g.answer(1)
		all = append(all, b.flying(1)...)
		g.answer(1)
		for i, p := range all {
			if a := p.read("GET"); a.StatusCode != 200 {
				t.Errorf("request %d got %d", i, a.StatusCode)
			}
		}
	})
}

func TestWhoeverEndsMakesRoomHoweverItEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		g := newGated(b, backendAddr)
		b.apply(limited(1))
		for range 3 {
			p := b.flying(1)[0]
			_ = p.Close()
			time.Sleep(2 * time.Second) // within one the proxy has looked
		}
		p := b.flying(1)[0]
		g.answer(1)
		if a := p.read("GET"); a.StatusCode != 200 {
			t.Errorf("after three clients that went: %d", a.StatusCode)
		}
	})
}
