package proxy

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// retries is what an exchange knows of its attempts as a whole.
type retries struct {
	class  retry.Class
	spent  int // retries that the budget paid for
	unsent int // the others
	// unsentFor is what the attempts have taken that no endpoint can have processed;
	// began is when the last attempt, or race, did.
	unsentFor time.Duration
	began     time.Time
	total     time.Time // when the policy's total timeout passes; zero: none
	fresh     bool      // no kept connection is to be used
	// committed: a 1xx response went to the client.
	committed bool
	stopped   retry.Why // why nothing more was tried; WhyFinal: no attempt failed or was hedged
	headEnd   int       // where the head in out ends, without its empty line
	marked    int       // bytes of the field that counts attempts, in front of that
}

// failure is what retry.Decide has to know of how an attempt failed. The zero
// value is one after which nothing is tried.
type failure struct {
	outcome retry.Outcome
	sent    retry.Sent
}

// forward has the request answered: it sends it to one endpoint after another
// until there is a response for the client or nothing is to be tried any more.
// The last response or failure is what the client gets.
func (ex *exchange) forward() Reason {
	ex.class = retry.ClassOf(ex.req.Method)
	p := &ex.rule.retry
	if p.TotalTimeout > 0 && ex.policed() {
		ex.total = ex.start.Add(p.TotalTimeout)
	}
	if reason := ex.pick(); reason != ReasonOK {
		return reason
	}
	ex.tried.Add(ex.turn.Endpoint)
	ex.leg.pool.Budget.Deposit(ex.now)
	if reason := ex.joinBody(); reason != ReasonOK {
		return reason
	}
	for {
		var reason Reason
		var f failure
		ex.began = ex.now
		if p.HedgeAfter > 0 && ex.hedged() {
			reason, f = ex.race()
		} else {
			reason, f = ex.attempt()
		}
		if reason == ReasonOK {
			if !ex.unwanted() {
				return ReasonOK
			}
			f = failure{retry.OutcomeStatus, retry.SentSome}
		}
		again, reason := ex.decide(p, f, reason)
		if again.Action == retry.Stop {
			return reason
		}
		ex.leave(reason, f, again.Action)
		if f.sent == retry.SentNone && ex.now.Sub(ex.began) >= clientCheck && ex.clientLeft() {
			return ReasonClientGone // while an endpoint did not let itself be connected to, say
		}
		if reason = ex.pause(again.At); reason != ReasonOK {
			return reason
		}
		if again.Action == retry.Elsewhere {
			if reason = ex.takeFrom(ex.leg); reason != ReasonOK {
				return reason
			}
			ex.tried.Add(ex.turn.Endpoint)
			ex.greet = ex.rule.session != nil
		}
		ex.mark()
	}
}

// unwanted reports whether the policy asks for another attempt after the status of
// the response.
func (ex *exchange) unwanted() bool {
	p := &ex.rule.retry
	return p.On&plan.RetryCodes != 0 && p.Attempts > 0 && p.Codes.Has(ex.res.Status)
}

// policed reports whether the policy of the rule asks for retries of requests of
// this method that may have been processed.
func (ex *exchange) policed() bool {
	p := &ex.rule.retry
	return p.Attempts > 0 && retry.Allows(p.Methods, ex.class)
}

// decide says what comes after a failed attempt, and pays for it. When nothing
// does, the reason is what the exchange ends with.
func (ex *exchange) decide(p *plan.Retry, f failure, reason Reason) (retry.Decision, Reason) {
	if f.outcome == retry.OutcomeFinal {
		return retry.Decision{}, reason
	}
	s := retry.State{
		Class: ex.class, Sent: f.sent, Committed: ex.committed, Outcome: f.outcome, Status: ex.res.Status,
		Retries: ex.spent, Unsent: ex.unsent, Connect: ex.rule.timeouts.Connect, Fresh: ex.fresh,
		Untried: ex.leg.pool.HasAnother(&ex.tried), Random: rand.Uint64(),
	}
	ex.totalEnd() // moves it behind an upload that has ended
	s.Deadline = ex.deadline
	if s.Deadline.IsZero() || !ex.total.IsZero() && ex.total.Before(s.Deadline) {
		s.Deadline = ex.total
	}
	if f.outcome != retry.OutcomeStatus {
		// There is no response to save: the connection is given up first, so that
		// what becomes of the body is certain.
		ex.stopUpload(0)
		if ex.uploadErr != ReasonOK {
			return retry.Decision{}, ex.uploadErr
		}
		ex.now = time.Now()
		if f.sent == retry.SentNone {
			ex.unsentFor += ex.now.Sub(ex.began)
		}
	} else if p.HonorRetryAfter {
		s.RetryAfter = ex.retryAfter()
	}
	s.Body, s.Now, s.UnsentFor = ex.body(), ex.now, ex.unsentFor
	d := retry.Decide(p, &s)
	if d.Spend && !ex.leg.pool.Budget.Withdraw(ex.now) {
		d = d.Unfunded()
	}
	if d.Action != retry.Stop && ex.uploading {
		ex.stopUpload(lastWrite)
		switch {
		case ex.uploadErr != ReasonOK:
			return retry.Decision{}, ex.uploadErr
		case ex.body() == retry.BodyLost: // it was taken since
			ex.closing, ex.upSpent = true, true
			d = retry.Decision{Why: retry.WhyBody}
		}
	}
	ex.stopped = d.Why
	if d.Why != retry.WhyFinal {
		ex.series.Retry(d.Why)
	}
	switch {
	case d.Action == retry.Stop:
	case d.Spend:
		ex.spent++
	default:
		ex.unsent++
	}
	ex.fresh = ex.fresh || d.Fresh
	return d, reason
}

// body says whether the request's body can be sent again. While the body is
// being sent it may become worse at any time.
func (ex *exchange) body() retry.Body {
	switch {
	case !ex.req.Chunked && ex.req.ContentLength <= 0:
		return retry.BodyNone
	case ex.keep.lost.Load():
		return retry.BodyLost
	case ex.req.Expect100 && ex.continued.Load() == 0:
		return retry.BodyUnsent
	}
	return retry.BodyKept
}

// leave ends an attempt after which another one follows: that on the same
// endpoint keeps its turn.
func (ex *exchange) leave(reason Reason, f failure, next retry.Action) {
	if ex.up != nil {
		if f.outcome == retry.OutcomeStatus && ex.drained() {
			ex.keepUpstream()
		} else {
			ex.dropUpstream()
		}
	}
	if next == retry.Elsewhere {
		if f.outcome == retry.OutcomeStale {
			// That a kept connection ended says nothing of the endpoint.
			ex.turn.Release(ex.now, upstream.Inconclusive, "")
		} else {
			ex.release(reason, ex.now)
		}
	}
	ex.res.Reset()
	ex.resBody = http1.Body{}
	ex.detail, ex.sentAt, ex.headed, ex.connect, ex.header, ex.upSpent = "", time.Time{}, false, 0, 0, false
	ex.uploadEnd.Store(0)
}

// drained reads the rest of a response that nobody wants and reports whether its
// connection can be used again. It takes what is there and waits for nothing.
func (ex *exchange) drained() bool {
	length, chunked, untilClose := ex.res.BodyFraming(ex.req.Method)
	if ex.res.Close || untilClose || ex.upSpent {
		return false
	}
	b := &ex.resBody
	b.Reset(ex.up, length, chunked, true, 0)
	for !b.Done() && len(ex.up.Buffered()) > 0 {
		if _, err := b.Ready(); err != nil && !b.Done() {
			return false
		}
	}
	return b.Done() && len(ex.up.Buffered()) == 0
}

// pause waits for the time of the next attempt.
func (ex *exchange) pause(at time.Time) Reason {
	ex.until, ex.late = ex.deadline, ReasonRequestTimeout
	for ex.now.Before(at) {
		time.Sleep(ex.tick(at).Sub(ex.now))
		if reason := ex.looked(time.Time{}, ReasonOK); reason != ReasonOK {
			return reason
		}
	}
	return ReasonOK
}

// mark tells the next endpoint in the head which attempt it gets, so that it can
// tell a retry from load, and need not retry what is retried here.
func (ex *exchange) mark() {
	var room [32]byte
	field := strconv.AppendInt(append(room[:0], "X-Ferrum-Attempt: "...), int64(ex.attempts+1), 10)
	field = append(field, "\r\n"...)
	ex.setOut(slices.Replace(ex.out, ex.headEnd, ex.headEnd+ex.marked, field...))
	ex.marked = len(field)
}

// retryAfter is how long the response asks to wait (RFC 9110, 10.2.3); 0: it
// does not ask.
func (ex *exchange) retryAfter() time.Duration {
	for i := range ex.res.Fields {
		if f := &ex.res.Fields[i]; f.Kind == http1.RetryAfter && !f.Drop {
			wait, _ := retry.ParseRetryAfter(f.Value, ex.now)
			return wait
		}
	}
	return 0
}
