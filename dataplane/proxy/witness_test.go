package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// silent is a backend that answers as late as answer says, which gets the path, and
// notes how long each connection lived. Less than nothing: it never answers.
type silent struct {
	answer func(path string) time.Duration

	mu    sync.Mutex
	lived []time.Duration
}

func (s *silent) serve(c net.Conn, r *bufio.Reader) {
	began := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lived = append(s.lived, time.Since(began))
	}()
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		after := s.answer(req.URL.Path)
		if after < 0 {
			_, _ = io.Copy(io.Discard, r) // until the proxy closes
			return
		}
		time.Sleep(after)
		if _, err = io.WriteString(c, ok("first")); err != nil {
			return
		}
	}
}

// answerTime is how long the first endpoint has for an answer.
const answerTime = 9500 * time.Millisecond

// suspecting serves a plan in which a first endpoint is asked, and what it does not
// answer in time goes to a second one, which answers at once, always within the
// budget.
func (b *bed) suspecting(s *silent, change ...func(r *plan.Rule, p *plan.Policy)) plan.Plan {
	b.backend(three[0], s.serve)
	b.backend(three[1], (&slow{answer: ok("second")}).serve)
	p := hedging(three[:2], append([]func(r *plan.Rule, p *plan.Policy){func(r *plan.Rule, p *plan.Policy) {
		r.Timeouts.ResponseHeader, r.Retry.TotalTimeout = answerTime, 0
		p.RetryBudget.Percent = 100
		p.Passive = plan.PassiveCheck{ConsecutiveFailures: 5, BaseEjection: 30 * time.Second, MaxEjection: 10 * time.Minute, MaxEjectedPercent: 100}
	}}, change...)...)
	b.apply(p)
	return p
}

// ask sends a request for a path once a second, so many times.
func (b *bed) ask(n int, path string) {
	b.t.Helper()
	c := b.dial()
	for range n {
		began := time.Now()
		if a := c.get("GET "+path+" HTTP/1.1", shopHost); a.StatusCode != 200 || time.Since(began) > hedgeAfter {
			b.t.Errorf("%d %q after %v", a.StatusCode, a.body, time.Since(began))
		}
		time.Sleep(time.Second - time.Since(began))
	}
	_ = c.Close()
}

func never(string) time.Duration { return -1 }

// An endpoint that took requests and answered none was never found out as long as
// the budget paid for hedges: each attempt there was canceled when the hedge had its
// answer, and said nothing. All it was asked cost hedgeAfter, for ever.
func TestAnEndpointThatHangsIsEjectedThoughAllItIsAskedIsHedged(t *testing.T) {
	for name, change := range map[string]func(r *plan.Rule, p *plan.Policy){
		"in a row": func(*plan.Rule, *plan.Policy) {},
		"in percent": func(_ *plan.Rule, p *plan.Policy) {
			p.Passive.ConsecutiveFailures, p.Passive.FailurePercent, p.Passive.FailureMinRequests = 0, 50, 8
			p.Passive.FailureWindow = 10 * time.Second
		},
		"by the total timeout": func(r *plan.Rule, _ *plan.Policy) {
			r.Timeouts.ResponseHeader, r.Retry.TotalTimeout = 0, answerTime
		},
		"by that of an attempt": func(r *plan.Rule, _ *plan.Policy) { r.Timeouts.BackendRequest = answerTime },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				s := &silent{answer: never}
				p := b.suspecting(s, change)
				b.ask(12, "/") // the fourth one goes on
				b.wantState(p, "serving")
				b.ask(1, "/")
				b.wantState(p, "ejected")
				b.ask(8, "/")
				b.atRest(p)
				slices.Sort(s.lived)
				if n := len(s.lived); n != 13 || s.lived[n-2] != hedgeAfter || s.lived[n-1] != answerTime {
					t.Errorf("the attempts lasted %v", s.lived)
				}
			})
		})
	}
}

// Whoever is slower than hedgeAfter, always, is asked for nothing that is not
// overtaken, and must not be taken for one that hangs.
func TestAnEndpointThatIsOnlySlowIsNotEjectedForIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		s := &silent{answer: func(string) time.Duration { return 9 * time.Second }}
		p := b.suspecting(s, func(_ *plan.Rule, p *plan.Policy) { p.Passive.ConsecutiveFailures = 1 })
		for range 300 {
			b.ask(1, "/")
			b.wantState(p, "serving")
		}
		time.Sleep(10 * time.Second)
		b.atRest(p)
	})
}

// One that hangs at some requests only is to blame for those that had their time,
// and not for those that were given up while it answered others.
func TestAnAnswerToAnybodyIsAWordForTheEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		s := &silent{answer: func(path string) time.Duration {
			if path == "/hangs" {
				return -1
			}
			return 0
		}}
		p := b.suspecting(s)
		for range 20 {
			b.ask(9, "/hangs")
			b.ask(4, "/answered")
			b.wantState(p, "serving")
		}
		time.Sleep(10 * time.Second)
		b.wantState(p, "serving")
		b.atRest(p)
	})
}

// The trial of an endpoint that sent a 1xx response after the hedge had its answer
// was over with that, and the endpoint took requests again though it never answered.
func TestAnInterimResponseIsNoResultOfATrial(t *testing.T) {
	for name, tc := range map[string]struct {
		then string
		want string
	}{
		"hangs then":   {"", "ejected"},
		"answers then": {ok("first"), "serving"},
		"fails then":   {unavailable, "ejected"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				s := &slow{after: time.Second, answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3) + tc.then}
				resets := true
				b.backend(three[0], func(c net.Conn, r *bufio.Reader) {
					if resets {
						resets = false
						return
					}
					s.serve(c, r)
				})
				b.backend(three[1], (&slow{answer: ok("second")}).serve)
				p := hedging(three[:2], func(r *plan.Rule, p *plan.Policy) {
					r.Timeouts.ResponseHeader, r.Retry.TotalTimeout = 10*time.Second, 0
					p.Passive = plan.PassiveCheck{ConsecutiveFailures: 1, BaseEjection: 30 * time.Second, MaxEjection: 10 * time.Minute, MaxEjectedPercent: 100}
					p.Passive.Statuses.Add(502, 504)
				})
				b.apply(p)
				b.wantSecond(0)
				b.wantState(p, "ejected")
				time.Sleep(time.Minute)
				b.wantSecond(hedgeAfter)
				time.Sleep(time.Second - hedgeAfter - 1)
				b.wantState(p, "probing")
				if tc.then == "" {
					time.Sleep(time.Second)
					b.wantState(p, "probing")
					time.Sleep(10 * time.Second)
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
				b.wantState(p, tc.want)
				b.atRest(p)
			})
		})
	}
}
