package upstream

import (
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Turn is a request's hold on an endpoint, from Pool.Take to Release. It counts
// as in flight there meanwhile. It belongs to one goroutine at a time and must
// not be copied once Answered was called.
type Turn struct {
	// Endpoint to send the request to; nil: none takes requests.
	Endpoint *Endpoint
	// Full: there is no Endpoint because it has, or all have, as many requests as
	// each may have.
	Full bool

	epoch  uint32
	trial  bool   // the one request that decides about the endpoint
	failed bool   // the endpoint has been blamed for this request
	asked  bool   // the latency of its answer is waited for
	others uint32 // requests that failed with this one, and itself: see silence
}

// Trial reports whether the request is the one that decides about an endpoint whose
// ejection is over, and has not done so yet.
func (t *Turn) Trial() bool { return t.trial }

// hold counts a request as in flight.
func (e *Endpoint) hold() Turn {
	e.load.inFlight.Add(1)
	return e.held()
}

// held is the hold on an endpoint that counts the request already.
func (e *Endpoint) held() Turn {
	if e.pool.hashed {
		e.pool.inFlight.Add(1)
	}
	return Turn{Endpoint: e, epoch: e.epoch.Load()}
}

// ask begins the wait for an answer, where its latency is of interest.
func (t *Turn) ask(now int64) {
	t.asked = true
	t.Endpoint.load.latency.sent(now)
}

// heard ends it.
func (t *Turn) heard(now time.Time) {
	if t.asked {
		t.asked = false
		t.Endpoint.load.latency.heard(t.Endpoint.pool.since(now))
	}
}

// Answered tells of the head of the response, which came after latency; 0: it is
// not known. What it decides is decided now: a response may take hours to its
// end. retryAfter is what the endpoint asks for with a status of 429 or 503; 0:
// nothing.
func (t *Turn) Answered(now time.Time, latency time.Duration, status int, retryAfter time.Duration) {
	e := t.Endpoint
	policy := &e.pool.Key.Policy
	t.heard(now)
	if policy.LoadBalancing.Balancer == plan.PeakEWMA {
		if status == 429 || status == 503 {
			latency = max(latency, penalty, min(retryAfter, maxPenalty))
		}
		if latency > 0 {
			e.load.latency.observe(e.pool.since(now), latency)
		}
	}
	if !policy.Passive.On() {
		return
	}
	e.silence.answered()
	switch {
	case policy.Passive.Statuses.Has(status):
		t.failed = true
		t.judge(now, Failure, cause{status: status})
	case t.trial || status == 101:
		t.judge(now, Success, cause{})
	}
}

// Overtaken tells, before Release, that another endpoint has answered the request
// after this one was silent for so long: it is at least as slow as that.
func (t *Turn) Overtaken(now time.Time, silent time.Duration) {
	if e := t.Endpoint; t.asked {
		e.load.latency.observe(e.pool.since(now), silent)
	}
}

// Release ends the request. why is the word for a Failure, which is ignored when
// Answered has blamed the endpoint already.
func (t *Turn) Release(now time.Time, v Verdict, why string) {
	e := t.Endpoint
	if e == nil {
		return
	}
	t.heard(now)
	e.load.inFlight.Add(-1)
	if e.pool.hashed {
		e.pool.inFlight.Add(-1)
	}
	if v == Failure && e.pool.Key.Policy.LoadBalancing.Balancer == plan.PeakEWMA {
		e.load.latency.observe(e.pool.since(now), penalty)
	}
	if !t.failed && (t.trial || v != Inconclusive && e.pool.Key.Policy.Passive.On()) {
		t.judge(now, v, cause{word: why})
	}
	*t = Turn{}
}
