package proxy

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// race is one attempt of a request whose rule hedges, and, from HedgeAfter on, a
// second one on another endpoint beside it. Each runs in a lane, which is an
// exchange of its own without a client; the exchange of the request waits for
// them, and takes over what the better one has.
//
//	first runs --HedgeAfter--> both run --a lane wins--> the other is canceled
//	     |                         |
//	     | wins or fails           | a lane fails: the other is waited for
//	     v                         v
//	   adopted                 the last one is adopted
//
// A lane wins with the head of a response whose status the policy would not try
// again after; a 1xx response is one, because the client gets it and nothing else
// may follow it. It fails with anything else. When both have failed, what is
// adopted is a response rather than none, and of two the later one.
type race struct {
	ex      *exchange
	settled chan *lane // has room for both, so that no lane waits
	running [2]*lane   // nil: over, or not begun
	failed  *lane      // has failed with a response; nil: none
}

// lane is an attempt in a goroutine of its own. Its exchange belongs to that
// goroutine until it is settled, and stays with it when it was canceled before.
type lane struct {
	ex       *exchange
	settled  chan<- *lane
	endpoint *upstream.Endpoint
	began    time.Time
	trial    bool // of its endpoint
	witness  bool // of its endpoint's silence; set before over

	mu       sync.Mutex
	over     bool        // settled, or the race goes on without it, whatever came first
	canceled bool        // after over
	conn     *http1.Conn // to close when it is canceled; nil: there is none
	limit    *time.Timer // cancels it when it has been overtaken for long; nil: it was not
	reason   Reason      // that it settled with
	fail     failure
}

// hedged reports whether the rule may send this request to two endpoints at a
// time: it is safe, here whole, and does not become a tunnel.
func (ex *exchange) hedged() bool {
	return ex.class == retry.Safe && ex.rule.retry.Attempts > 0 && ex.body() == retry.BodyNone && ex.req.Upgrade == nil
}

// race is attempt for a request that may be hedged.
func (ex *exchange) race() (Reason, failure) {
	r := race{ex: ex, settled: make(chan *lane, 2)}
	hedge, look := time.NewTimer(ex.rule.retry.HedgeAfter), time.NewTicker(clientCheck)
	defer hedge.Stop()
	defer look.Stop()
	defer r.stop()
	r.running[0] = r.start()
	for {
		select {
		case l := <-r.settled:
			if r.took(l) {
				l = r.best(l)
				r.overtake() // before anything else is waited for
				return ex.adopt(l)
			}
		case <-hedge.C:
			ex.now = time.Now()
			r.hedge()
		case <-look.C:
			if !ex.c.Alive() {
				return ReasonClientGone, failure{}
			}
		}
	}
}

// start sends the request to the endpoint of the exchange's turn, which is the
// lane's from now on, with the place in the pool.
func (r *race) start() *lane {
	ex := r.ex
	ex.attempts++
	x := ex.p.exchanges.Get().(*exchange)
	x.start, x.now, x.rule, x.deadline, x.total = ex.start, ex.now, ex.rule, ex.deadline, ex.total
	x.leg, x.class, x.fresh, x.inLane = ex.leg, ex.class, ex.fresh, true
	x.req.Minor, x.req.Expect100 = ex.req.Minor, ex.req.Expect100 // what interim goes by
	x.reqBody.Reset(nil, 0, false, false, 0)
	x.setOut(append(x.out[:0], ex.out...))
	x.turn, ex.turn = ex.turn, upstream.Turn{}
	x.inPool, ex.inPool = ex.inPool, nil
	l := &lane{ex: x, settled: r.settled, endpoint: x.turn.Endpoint, began: ex.now, trial: x.turn.Trial()}
	go l.run()
	return l
}

// hedge sends the request to another endpoint as well, if the policy, the pool
// and its budget have that.
func (r *race) hedge() {
	ex := r.ex
	s := retry.State{Class: ex.class, Body: retry.BodyNone, Retries: ex.spent, Untried: ex.leg.pool.HasAnother(&ex.tried), Now: ex.now}
	s.Deadline, _ = ex.sooner(ex.deadline, ReasonOK)
	d := retry.Hedge(&ex.rule.retry, &s)
	if d.Action != retry.Stop && !ex.takeBeside() {
		d = retry.Decision{Why: retry.WhyEndpoints}
	}
	if d.Action != retry.Stop && !ex.leg.pool.Budget.Withdraw(ex.now) {
		d = d.Unfunded()
		ex.turn.Release(ex.now, upstream.Inconclusive, "")
		ex.leavePool()
	}
	ex.series.Retry(d.Why)
	if d.Action == retry.Stop {
		return
	}
	ex.stopped = d.Why
	ex.spent++
	ex.tried.Add(ex.turn.Endpoint)
	ex.mark()
	r.running[1] = r.start()
}

// takeBeside takes an endpoint, and a place in the pool, for a second attempt
// beside the first one. It does not wait for either.
func (ex *exchange) takeBeside() bool {
	b := ex.leg.pool.Breaker
	if b != nil && !b.TryEnter() {
		return false
	}
	ex.inPool = b
	if ex.turn = ex.leg.pool.Take(ex.ask(ex.leg)); ex.turn.Endpoint == nil {
		ex.turn = upstream.Turn{}
		ex.leavePool()
		return false
	}
	return true
}

// took notes that a lane has settled, and reports whether the race is over.
func (r *race) took(l *lane) bool {
	for i := range r.running {
		if r.running[i] == l {
			r.running[i] = nil
		}
	}
	if l.won() || r.running == [2]*lane{} {
		return true
	}
	if l.reason == ReasonOK {
		r.failed = l
		return false
	}
	l.end(l.verdict()) // now, so that it is judged by its own time
	r.ex.greet = r.ex.rule.session != nil
	return false
}

// best is the lane that the request goes on with, of the one that settled last
// and the one that has failed before. The other one is ended.
func (r *race) best(last *lane) *lane {
	other := r.failed
	if other == nil {
		return last
	}
	if last.reason != ReasonOK && other.reason == ReasonOK {
		last, other = other, last
	}
	r.failed = nil
	other.end(other.verdict())
	return last
}

// overtake is for what still runs when there is an answer.
func (r *race) overtake() {
	for i, l := range r.running {
		if l == nil {
			continue
		}
		if !l.trial && l.silent() && time.Since(l.began) >= r.ex.rule.retry.HedgeAfter {
			l.witness = l.endpoint.Suspect()
		}
		if l.trial || l.witness {
			r.running[i] = nil
			l.overtake()
		}
	}
	r.stop()
}

// stop cancels what runs, and ends what nobody has taken.
func (r *race) stop() {
	for i, l := range r.running {
		if l != nil {
			r.running[i] = nil
			l.stop()
		}
	}
	if r.failed != nil {
		r.failed.end(r.failed.verdict())
	}
}

// won reports whether the lane has a response for the client.
func (l *lane) won() bool { return l.reason == ReasonOK && !l.ex.unwanted() }

// adopt takes over what a lane has settled with. A session that the client has
// stays with its endpoint if that was only slow.
func (ex *exchange) adopt(l *lane) (Reason, failure) {
	x := l.ex
	ex.turn, x.turn = x.turn, upstream.Turn{}
	ex.inPool, x.inPool = x.inPool, nil
	ex.up, ex.upMade, x.up = x.up, x.upMade, nil
	ex.res, x.res = x.res, ex.res
	ex.sentAt, ex.headed, ex.connect, ex.header = x.sentAt, x.headed, x.connect, x.header
	ex.until, ex.late, ex.detail, ex.upSpent = x.until, x.late, x.detail, x.upSpent
	ex.now = time.Now()
	if l.reason == ReasonOK && ex.late == ReasonBackendRequestTimeout {
		// The wait for the other lane is not the endpoint's: the body has as long as
		// it had when the head came.
		ex.until = ex.until.Add(ex.now.Sub(x.now))
		if !ex.deadline.IsZero() && ex.deadline.Before(ex.until) {
			ex.until, ex.late = ex.deadline, ReasonRequestTimeout
		}
	}
	x.retire()
	if l.reason == ReasonOK && ex.res.Status < 200 {
		return ex.goOn()
	}
	return l.reason, l.fail
}

// goOn forwards the 1xx response that has won a race, and reads on.
func (ex *exchange) goOn() (Reason, failure) {
	if reason := ex.interim(); reason != ReasonOK {
		return reason, failure{}
	}
	return ex.readHeads(nil, len(ex.out), false, 1)
}

// run is the lane's goroutine.
func (l *lane) run() {
	defer func() {
		if v := recover(); v != nil {
			l.ex.p.log.Error(nil, "an attempt made the proxy panic and is given up", "panic", v, "stack", string(debug.Stack()))
			l.settle(ReasonInternal, failure{})
		}
	}()
	ex := l.ex
	ex.bound()
	reused, reason, f := ex.connectTo()
	if reason == ReasonOK {
		if !l.connected() {
			l.end(ReasonClientGone)
			return
		}
		reason, f = ex.exchangeHeads(reused)
		if reason == ReasonOK && ex.res.Status < 200 && l.overtaken() {
			reason, f = ex.readPast()
		}
	}
	l.settle(reason, f)
}

// overtaken reports whether the lane goes on beside an answer of another one.
func (l *lane) overtaken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over && !l.canceled
}

// readPast reads on, behind a 1xx response that nobody gets, to the head of the
// final one.
func (ex *exchange) readPast() (Reason, failure) {
	ex.req.Minor = 0 // as if for a client that does not know them
	ex.res.Reset()
	ex.up.Release()
	return ex.readHeads(nil, len(ex.out), false, 1)
}

// silent reports whether the lane is connected and has no answer.
func (l *lane) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

// connected makes the connection known, to be closed when the lane is canceled;
// false: it was.
func (l *lane) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = l.ex.up
	return !l.canceled
}

// settle gives the lane to the race, unless that goes on without it.
func (l *lane) settle(reason Reason, f failure) {
	l.mu.Lock()
	late, canceled := l.over, l.canceled
	l.over, l.conn, l.reason, l.fail = true, nil, reason, f
	if l.limit != nil {
		l.limit.Stop()
	}
	l.mu.Unlock()
	switch {
	case !late:
		l.settled <- l
	case canceled && l.ex.up != nil:
		l.end(ReasonClientGone)
	default: // a trial or a witness, or the connect has ended by itself, and that does speak of the endpoint
		l.end(l.verdict())
	}
}

// stop cancels the lane, whose goroutine ends it; or ends it when it has settled
// meanwhile.
func (l *lane) stop() {
	l.mu.Lock()
	settled := l.over
	l.over = true
	l.cancel()
	l.mu.Unlock()
	if settled {
		l.end(l.verdict())
	}
}

// overtake is stop for the trial of an endpoint that another one was faster than, and
// for the witness of its silence. It goes on to the head of its response, or until it
// fails, which the timeouts of the rule see to: what is canceled says nothing, so that
// an endpoint that is slower than HedgeAfter would never come back after an ejection,
// nor one that hangs be found out.
func (l *lane) overtake() {
	l.mu.Lock()
	settled := l.over
	l.over = true
	if !settled {
		l.limit = time.AfterFunc(upstream.TrialLimit, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.cancel()
		})
	}
	l.mu.Unlock()
	if settled {
		l.end(l.verdict())
	}
}

// cancel closes the connection, if there still is one: whatever comes on it, nobody
// reads it any more. mu is held.
func (l *lane) cancel() {
	l.canceled = true
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// verdict is the reason that speaks for or against the endpoint of a lane that has
// settled.
func (l *lane) verdict() Reason {
	switch {
	case l.fail.outcome == retry.OutcomeStale:
		return ReasonClientGone // that a kept connection ended says nothing of it
	case l.reason == ReasonOK && l.ex.res.Status < 200:
		return ReasonClientGone // nor does what comes before a response
	}
	return l.reason
}

// end gives back what the lane has. The reason speaks for or against its
// endpoint; that of a lane that was canceled is ReasonClientGone, which says
// nothing.
func (l *lane) end(reason Reason) {
	ex := l.ex
	if ex.up != nil {
		ex.dropUpstream()
	}
	if reason == ReasonClientGone && !ex.sentAt.IsZero() && !ex.headed {
		ex.turn.Overtaken(time.Now(), time.Since(ex.sentAt))
	}
	if l.witness {
		ex.turn.Testify(reason.silence())
	}
	ex.release(reason, time.Now())
	ex.leavePool()
	ex.retire()
}

// retire gives a lane's exchange back to the pool.
func (ex *exchange) retire() {
	ex.reset()
	ex.p.exchanges.Put(ex)
}
