package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// onTrial serves a plan that hedges with two endpoints, of which the first was just
// ejected for half a minute, and waits until a request may try it. That one answers
// after a while; 0: never. The second one answers at once.
func (b *bed) onTrial(after time.Duration, change ...func(r *plan.Rule, p *plan.Policy)) plan.Plan {
	b.t.Helper()
	var seen atomic.Int64
	b.backend(three[0], func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil || seen.Add(1) == 1 {
			return // the first one is reset
		}
		if after > 0 {
			time.Sleep(after)
			_, _ = io.WriteString(c, ok("first"))
		}
		_, _ = io.Copy(io.Discard, r) // until the proxy closes
	})
	b.backend(three[1], (&slow{answer: ok("second")}).serve)
	p := hedging(three[:2], append([]func(r *plan.Rule, p *plan.Policy){func(r *plan.Rule, p *plan.Policy) {
		r.Timeouts.ResponseHeader, r.Retry.TotalTimeout = 10*time.Second, 0
		p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: 30 * time.Second, MaxEjection: 10 * time.Minute, MaxEjectedPercent: 100}
	}}, change...)...)
	b.apply(p)
	b.wantSecond(0)
	b.wantState(p, "ejected")
	time.Sleep(time.Minute)
	return p
}

// wantSecond makes a request that the second endpoint answers after a time.
func (b *bed) wantSecond(after time.Duration) {
	b.t.Helper()
	began := time.Now()
	if a := b.dial().get("GET / HTTP/1.1", shopHost); a.body != "second" || time.Since(began) != after {
		b.t.Errorf("%d %q after %v", a.StatusCode, a.body, time.Since(began))
	}
}

// wantState checks the state of the first endpoint.
func (b *bed) wantState(p plan.Plan, want string) {
	b.t.Helper()
	synctest.Wait()
	if e := proxy.ExplainPool(b.reg.Pool(p.Pools[0].Key))[0]; e.State != want {
		b.t.Errorf("%s is %s, want %s: %s", e.Address, e.State, want, e.Reason)
	}
}

// The trial of an endpoint that was slower than hedgeAfter was canceled when the
// hedge had its answer, and said nothing; so did the next one, a second later, and
// all others: the endpoint was never used again, sound as it was.
func TestAnEndpointThatIsSlowerThanHedgeAfterPassesItsTrial(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := b.onTrial(time.Second)
		b.wantSecond(hedgeAfter) // the client does not wait for the trial
		b.wantState(p, "probing")
		time.Sleep(time.Second)
		b.wantState(p, "serving")
		b.atRest(p)
		if r := b.sink.last(t); r.Endpoint.String() != three[1] || r.Attempts != 2 || r.Stopped != retry.WhyHedge {
			t.Errorf("recorded %d attempts, %v, at %s", r.Attempts, r.Stopped, r.Endpoint)
		}
	})
}

// One that had hung on was tried again each second, by requests that had to be
// hedged, instead of being ejected for longer.
func TestAnEndpointThatHangsFailsItsTrialWhoeverAnswersMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := b.onTrial(0)
		b.wantSecond(hedgeAfter)
		for range 9 {
			time.Sleep(time.Second)
			b.wantState(p, "probing")
			b.wantSecond(0) // one request is the trial
		}
		time.Sleep(time.Second)
		b.wantState(p, "ejected")
		b.atRest(p)
		time.Sleep(time.Minute - time.Second) // its second ejection is twice as long
		b.wantSecond(0)
		time.Sleep(10 * time.Second)
		b.wantSecond(hedgeAfter)
		b.wantState(p, "probing")
		time.Sleep(10 * time.Second)
		b.wantState(p, "ejected")
	})
}

func TestATrialThatNoTimeoutBoundsEndsWhenAnotherRequestMayBeIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := b.onTrial(0, func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.ResponseHeader = 0 })
		b.wantSecond(hedgeAfter)
		time.Sleep(upstream.TrialLimit - hedgeAfter)
		b.wantState(p, "probing")
		time.Sleep(hedgeAfter)
		b.wantState(p, "ejected")
		b.atRest(p)
		time.Sleep(time.Second)
		b.wantSecond(hedgeAfter)
		time.Sleep(upstream.TrialLimit)
	})
}

func TestATrialEndsWithItsClientWhileThatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := b.onTrial(0, func(_ *plan.Rule, p *plan.Policy) { p.Breaker.MaxParallelRequests = 1 }) // so no hedge
		c := b.dial()
		c.send(get)
		time.Sleep(2 * hedgeAfter)
		b.wantState(p, "probing")
		_ = c.Close()
		time.Sleep(time.Second)
		b.wantState(p, "ejected")
		b.atRest(p)
	})
}
