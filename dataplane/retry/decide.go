package retry

import (
	"math"
	"math/bits"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxUnsent is how many times what was never processed is tried elsewhere: the
// most that a policy can ask for. If half of a pool does not connect, fewer
// than one request in a thousand fails for that.
const maxUnsent = 10

// unsentTimeouts is how many connect timeouts what was never processed is tried
// elsewhere for. Endpoints that refuse take none of it; of those that hang, it is
// as many as a client may still wait for.
const unsentTimeouts = 3

// gatewayTimeout is the status that a timeout of an attempt counts as.
const gatewayTimeout = 504

// State is what is known when an attempt has failed.
type State struct {
	Class Class
	Body  Body
	Sent  Sent
	// Committed: bytes of a response went to the client, 1xx included.
	Committed bool
	Outcome   Outcome
	// Status of the response, for OutcomeStatus.
	Status int
	// RetryAfter is what the response's Retry-After field asks for; zero when
	// there was none.
	RetryAfter time.Duration
	// Retries and Unsent count the decisions for this request so far: Retries
	// those that spent the budget, Unsent the others.
	Retries, Unsent int
	// UnsentFor is what the attempts that were never processed have taken, this one
	// included; Connect is the connect timeout, zero when there is none.
	UnsentFor, Connect time.Duration
	// Untried: the pool has an endpoint for this request that was not tried.
	Untried bool
	// Fresh: an earlier decision asked for a new connection, so this attempt did
	// not use a kept one.
	Fresh bool
	// Now is when the attempt failed; Deadline is the earlier one of the
	// request's and the policy's total timeout, zero when there is none.
	Now, Deadline time.Time
	// Random is drawn evenly from all uint64, for the jitter.
	Random uint64
}

// Decision says what comes next for a request. The zero value is Stop.
type Decision struct {
	Action Action
	// Spend: the attempt needs a unit of the pool's budget, to be withdrawn at
	// once. If there is none, the request stops (Decision.Unfunded).
	Spend bool
	// Fresh: no attempt for this request uses a kept connection any more.
	Fresh bool
	Why   Why
	// At is when the attempt starts; State.Now = at once.
	At time.Time
}

// Unfunded is the decision instead of d when the budget has nothing left.
func (d Decision) Unfunded() Decision { return stop(WhyBudget) }

func stop(w Why) Decision { return Decision{Why: w} }

// Decide says what to do after a failed attempt. It is pure; s is not kept.
func Decide(p *plan.Retry, s *State) Decision {
	switch {
	case s.Outcome == OutcomeFinal:
		return stop(WhyFinal)
	case s.Committed:
		return stop(WhyCommitted)
	case s.Body == BodyLost:
		return stop(WhyBody)
	case s.neverProcessed():
		return decideUnsent(s)
	}
	if s.staleAllowed() {
		d := s.place(WhyStale)
		d.Spend = true
		return s.start(d, 0)
	}
	return decideByPolicy(p, s)
}

// decideUnsent is Decide for what no endpoint has processed.
func decideUnsent(s *State) Decision {
	switch {
	case s.Unsent >= maxUnsent:
		return stop(WhyAttempts)
	case s.Connect > 0 && s.UnsentFor >= unsentTimeouts*s.Connect:
		return stop(WhyDeadline)
	}
	return s.start(s.place(WhyUnsent), 0)
}

// decideByPolicy is Decide for what may have been processed.
func decideByPolicy(p *plan.Retry, s *State) Decision {
	why, asked := condition(p, s)
	switch {
	case !asked:
		return stop(WhyPolicy)
	case !Allows(p.Methods, s.Class):
		return stop(WhyMethod)
	case s.Retries >= int(p.Attempts):
		return stop(WhyAttempts)
	}
	wait, ok := pause(p, s)
	if !ok {
		return stop(WhyRetryAfter)
	}
	d := s.place(why)
	d.Spend = true
	return s.start(d, wait)
}

// Hedge says whether a request is sent to another endpoint as well, at State.Now,
// when for HedgeAfter no head of a response has come. Outcome, Sent and Status are
// not looked at. It is pure.
func Hedge(p *plan.Retry, s *State) Decision {
	switch {
	case p.HedgeAfter <= 0:
		return stop(WhyPolicy)
	case s.Committed:
		return stop(WhyCommitted)
	case s.Class != Safe:
		return stop(WhyMethod)
	case s.Body != BodyNone:
		return stop(WhyBody)
	case s.Retries >= int(p.Attempts):
		return stop(WhyAttempts)
	case !s.Untried:
		return stop(WhyEndpoints)
	}
	return s.start(Decision{Action: Elsewhere, Spend: true, Why: WhyHedge}, 0)
}

// neverProcessed reports whether no endpoint can have processed the attempt.
func (s *State) neverProcessed() bool {
	switch s.Outcome {
	case OutcomeConnect, OutcomeStale, OutcomeReset, OutcomeTimeout:
		return s.Sent == SentNone
	case OutcomeUnprocessed:
		return true
	default:
		return false
	}
}

// staleAllowed reports whether RFC 9112, 9.3.1 lets the request be sent again
// without a policy.
func (s *State) staleAllowed() bool {
	return s.Outcome == OutcomeStale && !s.Fresh && s.Class != Unsafe && s.Body == BodyNone
}

// condition reports whether the policy asks for another attempt after what may
// have been processed.
func condition(p *plan.Retry, s *State) (why Why, asked bool) {
	switch s.Outcome {
	case OutcomeConnect, OutcomeStale, OutcomeReset:
		return WhyReset, p.On&plan.RetryReset != 0
	case OutcomeTimeout:
		return WhyTimeout, p.On&plan.RetryCodes != 0 && p.Codes.Has(gatewayTimeout)
	case OutcomeStatus:
		return WhyStatus, p.On&plan.RetryCodes != 0 && p.Codes.Has(s.Status)
	default:
		return WhyFinal, false
	}
}

// Allows reports whether a class of methods is in a policy's set.
func Allows(m plan.RetryMethods, c Class) bool {
	switch c {
	case Safe:
		return true
	case Idempotent:
		return m == plan.RetryIdempotent || m == plan.RetryAny
	default:
		return m == plan.RetryAny
	}
}

// place says where the next attempt goes.
func (s *State) place(why Why) Decision {
	connectionEnded := (s.Outcome == OutcomeStale || s.Outcome == OutcomeUnprocessed) && !s.Fresh
	switch {
	case s.Untried:
		return Decision{Action: Elsewhere, Fresh: connectionEnded, Why: why}
	case connectionEnded:
		return Decision{Action: Reconnect, Fresh: true, Why: why}
	default:
		return stop(WhyEndpoints)
	}
}

// pause is the time to wait before an attempt after what may have been
// processed; it is not ok if what the endpoint asks for is longer than the
// policy or the deadline gives. Without a deadline, the policy gives MaxBackoff.
func pause(p *plan.Retry, s *State) (wait time.Duration, ok bool) {
	wait = jitter(backoff(p, s.Retries), s.Random)
	if !p.HonorRetryAfter || s.RetryAfter <= wait {
		return wait, true
	}
	if s.Deadline.IsZero() {
		return s.RetryAfter, s.RetryAfter <= p.MaxBackoff
	}
	return s.RetryAfter, s.RetryAfter < s.Deadline.Sub(s.Now)
}

// backoff is the most that is waited after so many retries.
func backoff(p *plan.Retry, retries int) time.Duration {
	most := p.MaxBackoff
	if most <= 0 {
		most = math.MaxInt64
	}
	d := max(p.Backoff, 0)
	for range retries {
		if d > most/2 {
			return most
		}
		d *= 2
	}
	return min(d, most)
}

// jitter is even in [0, most]: full jitter, which spreads retries best.
func jitter(most time.Duration, random uint64) time.Duration {
	high, _ := bits.Mul64(random, uint64(most)+1)
	return time.Duration(high)
}

// start sets the time of an attempt, which must be before the deadline.
func (s *State) start(d Decision, wait time.Duration) Decision {
	if d.Action == Stop {
		return stop(d.Why)
	}
	d.At = s.Now.Add(wait)
	if !s.Deadline.IsZero() && !d.At.Before(s.Deadline) {
		return stop(WhyDeadline)
	}
	return d
}
