package retry

import (
	"fmt"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// codes returns a set of statuses.
func codes(list ...int) (s plan.StatusSet) {
	for _, c := range list {
		s.Add(c, c)
	}
	return s
}

// usual is the policy of most tests: everything is asked for, once.
func usual(m plan.RetryMethods) plan.Retry {
	return plan.Retry{
		Attempts: 1, On: plan.RetryReset | plan.RetryCodes, Codes: codes(503, 504), Methods: m,
		Backoff: 50 * time.Millisecond, MaxBackoff: time.Second, HonorRetryAfter: true,
	}
}

// ended is an outcome with the status that belongs to it.
type ended struct {
	outcome Outcome
	status  int
}

// eachCell calls f with every combination of what a decision depends on.
func eachCell(f func(p *plan.Retry, s *State)) {
	bools := []bool{false, true}
	var policies []plan.Retry
	for _, m := range []plan.RetryMethods{plan.RetrySafe, plan.RetryIdempotent, plan.RetryAny} {
		for _, on := range []plan.RetryOn{0, plan.RetryReset, plan.RetryCodes, plan.RetryReset | plan.RetryCodes} {
			p := usual(m)
			p.On = on
			policies = append(policies, p)
			p.HonorRetryAfter = false
			policies = append(policies, p)
		}
	}
	policies = append(policies, plan.Retry{}, plan.Retry{Attempts: 1, Methods: plan.RetryAny})
	var ends []ended
	for o := OutcomeFinal; o < OutcomeStatus; o++ {
		ends = append(ends, ended{o, 0})
	}
	ends = append(ends, ended{OutcomeStatus, 503}, ended{OutcomeStatus, 500})
	var states []State
	for _, end := range ends {
		for _, class := range []Class{Unsafe, Idempotent, Safe} {
			for _, body := range []Body{BodyLost, BodyNone, BodyUnsent, BodyKept} {
				for _, sent := range []Sent{SentUnknown, SentNone, SentSome} {
					for _, committed := range bools {
						states = append(states, State{Outcome: end.outcome, Status: end.status, Class: class, Body: body, Sent: sent, Committed: committed, Now: noon})
					}
				}
			}
		}
	}
	for i := range policies {
		for _, s := range states {
			for _, s.Retries = range []int{0, 1} {
				for _, s.Unsent = range []int{0, maxUnsent} {
					for _, s.Untried = range bools {
						for _, s.Fresh = range bools {
							for _, s.RetryAfter = range []time.Duration{0, 3 * time.Second} {
								for _, left := range []time.Duration{-1, 0, 2 * time.Second, time.Minute} {
									s.Deadline = noon.Add(left)
									f(&policies[i], &s)
								}
								s.Deadline = time.Time{}
								f(&policies[i], &s)
							}
						}
					}
				}
			}
		}
	}
}

// mayBeProcessed is the judge's own word on whether an endpoint can have
// processed the attempt.
func mayBeProcessed(s *State) bool {
	if s.Outcome == OutcomeUnprocessed {
		return false
	}
	return s.Sent != SentNone || s.Outcome == OutcomeStatus || s.Outcome == OutcomeFinal
}

func TestNoCellOfTheDecisionDoesWhatIsForbidden(t *testing.T) {
	cells, seen := 0, map[Why]int{}
	eachCell(func(p *plan.Retry, s *State) {
		cells++
		s.Random = uint64(cells) * 0x9e3779b97f4a7c15
		d := Decide(p, s)
		seen[d.Why]++
		if d.Action == Stop {
			if d != stop(d.Why) || d.Why >= WhyUnsent {
				t.Fatalf("%+v\n%+v: a stop is nothing but its reason: %+v", *p, *s, d)
			}
			return
		}
		forbid := func(what string, is bool) {
			if is {
				t.Fatalf("%+v\n%+v\n%+v: tried again %s", *p, *s, d, what)
			}
		}
		maybe := mayBeProcessed(s)
		forbid("after an end that is final", s.Outcome == OutcomeFinal)
		forbid("after bytes of a response went to the client", s.Committed)
		forbid("without the whole body", s.Body == BodyLost)
		forbid("on another endpoint, and there is none", d.Action == Elsewhere && !s.Untried)
		forbid("on the same endpoint, and there is another", d.Action == Reconnect && s.Untried)
		forbid("on the same endpoint, which is to blame", d.Action == Reconnect && s.Outcome != OutcomeStale && s.Outcome != OutcomeUnprocessed)
		forbid("on the same endpoint for a second time", d.Action == Reconnect && s.Fresh)
		forbid("on the same endpoint, on a kept connection", d.Action == Reconnect && !d.Fresh)
		forbid("at or after the deadline", !s.Deadline.IsZero() && !d.At.Before(s.Deadline))
		forbid("before now", d.At.Before(s.Now))
		forbid("beside the budget", d.Spend != maybe)
		forbid("too often", !maybe && s.Unsent >= maxUnsent)
		if !maybe {
			forbid("late, though nothing was processed", !d.At.Equal(s.Now))
			return
		}
		forbid("twice, though the method is unsafe and the policy does not say so", s.Class == Unsafe && p.Methods != plan.RetryAny)
		if d.Why == WhyStale {
			forbid("as stale", s.Outcome != OutcomeStale || s.Class == Unsafe || s.Body != BodyNone || s.Fresh)
			return
		}
		forbid("twice, though the policy has no such method", s.Class == Idempotent && p.Methods == plan.RetrySafe)
		forbid("more often than the policy says", s.Retries >= int(p.Attempts))
		forbid("without the condition", d.Why == WhyReset && p.On&plan.RetryReset == 0)
		forbid("without the code", d.Why != WhyReset && p.On&plan.RetryCodes == 0)
		forbid("after a status that is none of the codes", s.Outcome == OutcomeStatus && s.Status != 503)
		forbid("sooner than Retry-After", p.HonorRetryAfter && d.At.Before(s.Now.Add(s.RetryAfter)))
		forbid("later than Retry-After and the backoff", d.At.After(s.Now.Add(max(p.Backoff, s.RetryAfter))))
	})
	if cells < 1e6 {
		t.Errorf("only %d cells", cells)
	}
	for _, w := range Whys() {
		if seen[w] == 0 && w != WhyBudget && w != WhyHedge {
			t.Errorf("no cell ends with %v", w)
		}
	}
	t.Logf("%d cells: %v", cells, seen)
}

func TestWhatWasNeverProcessedIsTriedElsewhereByEveryPolicy(t *testing.T) {
	eachCell(func(p *plan.Retry, s *State) {
		if mayBeProcessed(s) || s.Committed || s.Body == BodyLost || !s.Untried || s.Unsent >= maxUnsent {
			return
		}
		if !s.Deadline.IsZero() && !s.Now.Before(s.Deadline) {
			return
		}
		if d := Decide(p, s); d.Action != Elsewhere || d.Spend || !d.At.Equal(s.Now) {
			t.Fatalf("%+v\n%+v: %+v", *p, *s, d)
		}
	})
}

func TestADecisionForWhatUsersKnow(t *testing.T) {
	get := State{Class: Safe, Body: BodyNone, Sent: SentSome, Untried: true, Now: noon}
	with := func(f func(s *State)) State {
		s := get
		f(&s)
		return s
	}
	for name, c := range map[string]struct {
		policy plan.Retry
		state  State
		want   string
	}{
		"a 503 of GET":                    {usual(plan.RetrySafe), with(func(s *State) { s.Outcome, s.Status = OutcomeStatus, 503 }), "1 status"},
		"a 404 of GET":                    {usual(plan.RetrySafe), with(func(s *State) { s.Outcome, s.Status = OutcomeStatus, 404 }), "0 policy"},
		"a 503 of POST":                   {usual(plan.RetryIdempotent), with(func(s *State) { s.Outcome, s.Status, s.Class = OutcomeStatus, 503, Unsafe }), "0 method"},
		"a 503 of POST, by Any":           {usual(plan.RetryAny), with(func(s *State) { s.Outcome, s.Status, s.Class = OutcomeStatus, 503, Unsafe }), "1 status"},
		"a reset without a policy":        {plan.Retry{}, with(func(s *State) { s.Outcome = OutcomeReset }), "0 policy"},
		"a timeout, with 504":             {usual(plan.RetrySafe), with(func(s *State) { s.Outcome = OutcomeTimeout }), "1 timeout"},
		"POST refused, no policy":         {plan.Retry{}, with(func(s *State) { s.Outcome, s.Sent, s.Class = OutcomeConnect, SentNone, Unsafe }), "1 unsent"},
		"POST refused by the only one":    {plan.Retry{}, with(func(s *State) { s.Outcome, s.Sent, s.Class, s.Untried = OutcomeConnect, SentNone, Unsafe, false }), "0 endpoints"},
		"stale under GET":                 {plan.Retry{}, with(func(s *State) { s.Outcome = OutcomeStale }), "1 stale"},
		"stale under GET at the only one": {plan.Retry{}, with(func(s *State) { s.Outcome, s.Untried = OutcomeStale, false }), "2 stale"},
		"stale under POST":                {plan.Retry{}, with(func(s *State) { s.Outcome, s.Class = OutcomeStale, Unsafe }), "0 policy"},
		"stale under POST, unsent":        {plan.Retry{}, with(func(s *State) { s.Outcome, s.Sent, s.Class, s.Untried = OutcomeStale, SentNone, Unsafe, false }), "2 unsent"},
		"POST refused by all, for long": {plan.Retry{}, with(func(s *State) {
			s.Outcome, s.Sent, s.Class, s.UnsentFor, s.Connect = OutcomeConnect, SentNone, Unsafe, 9*time.Second, 3*time.Second
		}), "0 deadline"},
		"POST refused by all, not yet for long": {plan.Retry{}, with(func(s *State) {
			s.Outcome, s.Sent, s.Class, s.UnsentFor, s.Connect = OutcomeConnect, SentNone, Unsafe, 9*time.Second-1, 3*time.Second
		}), "1 unsent"},
		"POST refused by all, without a connect timeout": {plan.Retry{}, with(func(s *State) {
			s.Outcome, s.Sent, s.Class, s.UnsentFor = OutcomeConnect, SentNone, Unsafe, time.Hour
		}), "1 unsent"},
		"a 503 of GET after endpoints that hung": {usual(plan.RetrySafe), with(func(s *State) {
			s.Outcome, s.Status, s.UnsentFor, s.Connect = OutcomeStatus, 503, time.Hour, time.Second
		}), "1 status"},
		"POST and GOAWAY": {plan.Retry{}, with(func(s *State) { s.Outcome, s.Class, s.Body = OutcomeUnprocessed, Unsafe, BodyKept }), "1 unsent"},
		"Retry-After beyond the deadline": {usual(plan.RetrySafe), with(func(s *State) {
			s.Outcome, s.Status, s.RetryAfter, s.Deadline = OutcomeStatus, 503, 5*time.Second, noon.Add(5*time.Second)
		}), "0 retry_after"},
	} {
		d := Decide(&c.policy, &c.state)
		if got := fmt.Sprint(d.Action, " ", d.Why); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// judge is an endpoint that records how often a request can have been processed.
type judge struct{ processed int }

func (j *judge) see(s *State) {
	if mayBeProcessed(s) {
		j.processed++
	}
}

func TestNoSequenceOfFailuresProcessesAnUnsafeRequestTwice(t *testing.T) {
	ends := []State{
		{Outcome: OutcomeConnect, Sent: SentNone}, {Outcome: OutcomeStale, Sent: SentNone}, {Outcome: OutcomeStale, Sent: SentSome},
		{Outcome: OutcomeReset, Sent: SentNone}, {Outcome: OutcomeReset, Sent: SentUnknown}, {Outcome: OutcomeUnprocessed, Sent: SentSome},
		{Outcome: OutcomeTimeout, Sent: SentSome}, {Outcome: OutcomeStatus, Status: 503, Sent: SentSome},
	}
	var walk func(p *plan.Retry, s State, j judge, endpoints int)
	walk = func(p *plan.Retry, s State, j judge, endpoints int) {
		for _, end := range ends {
			now, seen := s, j
			now.Outcome, now.Sent, now.Status = end.Outcome, end.Sent, end.Status
			now.Untried = endpoints > 0
			seen.see(&now)
			if now.Class == Unsafe && seen.processed > 1 {
				t.Fatalf("%+v: processed %d times", now, seen.processed)
			}
			if most := 2 + int(p.Attempts); seen.processed > most {
				t.Fatalf("%+v: processed %d times, more than %d", now, seen.processed, most)
			}
			d := Decide(p, &now)
			if d.Action == Stop {
				continue
			}
			if d.Spend {
				now.Retries++
			} else {
				now.Unsent++
			}
			left := endpoints
			if d.Action == Elsewhere {
				left--
			}
			now.Fresh = now.Fresh || d.Fresh
			walk(p, now, seen, left)
		}
	}
	for _, methods := range []plan.RetryMethods{plan.RetrySafe, plan.RetryIdempotent} {
		for _, class := range []Class{Unsafe, Safe} {
			for _, body := range []Body{BodyNone, BodyKept} {
				p := usual(methods)
				p.Attempts = 2
				walk(&p, State{Class: class, Body: body, Now: noon}, judge{}, 5)
			}
		}
	}
}

func TestBackoffDoublesUpToItsMostAndIsFullyJittered(t *testing.T) {
	p := usual(plan.RetrySafe)
	p.Attempts = 255
	at := func(retries int, random uint64) time.Duration {
		d := Decide(&p, &State{Class: Safe, Body: BodyNone, Outcome: OutcomeReset, Untried: true, Now: noon, Retries: retries, Random: random})
		if d.Action != Elsewhere {
			t.Fatalf("%+v", d)
		}
		return d.At.Sub(noon)
	}
	for retries, millis := range []int{50, 100, 200, 400, 800, 1000, 1000} {
		want := time.Duration(millis) * time.Millisecond
		if got := at(retries, 1<<64-1); got != want {
			t.Errorf("at most %v after %d retries, want %v", got, retries, want)
		}
		if got := at(retries, 1<<63); got != want/2 {
			t.Errorf("in the middle %v after %d retries", got, retries)
		}
		if got := at(retries, 0); got != 0 {
			t.Errorf("at least %v after %d retries", got, retries)
		}
	}
	p.MaxBackoff = 0
	if got := at(254, 1<<64-1); got < 200*365*24*time.Hour {
		t.Errorf("without a bound %v after 254 retries", got)
	}
}

func TestHedgingIsForSafeRequestsWithinThePolicy(t *testing.T) {
	p := usual(plan.RetryAny)
	p.HedgeAfter = 20 * time.Millisecond
	s := State{Class: Safe, Body: BodyNone, Untried: true, Now: noon, Deadline: noon.Add(time.Second)}
	if d := Hedge(&p, &s); d.Action != Elsewhere || !d.Spend || !d.At.Equal(noon) {
		t.Errorf("got %+v", d)
	}
	for want, change := range map[Why]func(s *State){
		WhyMethod:    func(s *State) { s.Class = Idempotent },
		WhyBody:      func(s *State) { s.Body = BodyKept },
		WhyCommitted: func(s *State) { s.Committed = true },
		WhyAttempts:  func(s *State) { s.Retries = 1 },
		WhyEndpoints: func(s *State) { s.Untried = false },
		WhyDeadline:  func(s *State) { s.Deadline = noon },
	} {
		c := s
		change(&c)
		if d := Hedge(&p, &c); d != stop(want) {
			t.Errorf("got %+v, want %v", d, want)
		}
	}
	p.HedgeAfter = 0
	if d := Hedge(&p, &s); d != stop(WhyPolicy) {
		t.Errorf("hedged without being asked: %+v", d)
	}
}

func TestClassesAreThoseOfTheMethods(t *testing.T) {
	for method, want := range map[string]Class{
		"GET": Safe, "HEAD": Safe, "OPTIONS": Safe, "TRACE": Safe, "PUT": Idempotent, "DELETE": Idempotent,
		"POST": Unsafe, "PATCH": Unsafe, "get": Unsafe, "PROPFIND": Unsafe, "": Unsafe,
	} {
		if got := ClassOf([]byte(method)); got != want {
			t.Errorf("%q: got %d, want %d", method, got, want)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	p := usual(plan.RetrySafe)
	s := State{Class: Safe, Body: BodyNone, Outcome: OutcomeStatus, Status: 503, Untried: true, Now: noon}
	if n := testing.AllocsPerRun(100, func() { _ = Decide(&p, &s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	p := usual(plan.RetrySafe)
	s := State{Class: ClassOf([]byte("GET")), Body: BodyNone, Outcome: OutcomeStatus, Status: 503, Untried: true, Now: noon}
	b.ReportAllocs()
	for b.Loop() {
		if Decide(&p, &s).Action == Stop {
			b.Fatal("stopped")
		}
	}
}
