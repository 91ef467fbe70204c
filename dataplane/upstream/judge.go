package upstream

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Verdict is what the end of a request says of its endpoint.
type Verdict uint8

// The verdicts.
const (
	// Inconclusive: the client or the proxy ended it. Neither good nor bad.
	Inconclusive Verdict = iota
	// Success: the endpoint did what it should.
	Success
	// Failure: the endpoint is to blame.
	Failure
)

// cause is why a request failed; its text is only made when it is told.
type cause struct {
	word   string
	status int // instead of the word
}

func (c cause) String() string {
	if c.status != 0 {
		return "status " + strconv.Itoa(c.status)
	}
	return c.word
}

// judge takes an outcome to the endpoint's record.
func (t *Turn) judge(now time.Time, v Verdict, why cause) {
	e := t.Endpoint
	switch {
	case t.trial:
		t.trial = false
		e.endTrial(now, v, why)
		t.epoch = e.epoch.Load() // what this request still does, it does to what follows
	case v == Inconclusive || t.epoch != e.epoch.Load():
		// It says nothing, or nothing of the endpoint as it is now.
	case v == Success:
		if e.fails.Load() != 0 {
			e.fails.Store(0)
		}
		if e.recent != nil {
			e.recent.add(e.pool.since(now), false)
		}
	default:
		for range max(t.others, 1) {
			if e.failed(now, why) {
				break
			}
		}
	}
}

// failed counts a failure, and ejects the endpoint if it is one too many: then it
// returns true, whether that is allowed or not.
func (e *Endpoint) failed(now time.Time, last cause) (detected bool) {
	c := &e.pool.Key.Policy.Passive
	n := e.fails.Add(1)
	if c.ConsecutiveFailures > 0 && n >= uint32(c.ConsecutiveFailures) {
		e.detected(now, fmt.Sprintf("%d requests in a row failed, the last with %s", n, last))
		return true
	}
	if e.recent == nil {
		return false
	}
	t := e.pool.since(now)
	e.recent.add(t, true)
	all, bad := e.recent.sum(t)
	if all >= uint64(max(c.FailureMinRequests, 1)) && bad*100 >= uint64(c.FailurePercent)*all {
		e.detected(now, fmt.Sprintf("%d of %d requests failed, the last with %s", bad, all, last))
		return true
	}
	return false
}

// detected ejects the endpoint, unless too many are out already.
func (e *Endpoint) detected(now time.Time, why string) {
	p := e.pool
	e.fails.Store(0)
	if e.recent != nil {
		e.recent.clear()
	}
	p.mu.Lock()
	if e.gone || e.health.phase != serving || e.State() != p.members.Load().base {
		p.mu.Unlock()
		return
	}
	if !p.mayEject(e) {
		p.mu.Unlock()
		p.tally.Skipped.Add(1)
		return
	}
	p.tally.Ejections.Add(1)
	n := p.step(e, now, why, func(h *health) { h.eject(now, &p.Key.Policy.Passive) })
	p.mu.Unlock()
	p.tell(n)
}

// mayEject reports whether one more ejection is allowed; p.mu is held. At least
// one of two or more is, and never that of the last endpoint that is sound.
func (p *Pool) mayEject(e *Endpoint) bool {
	m := p.members.Load()
	n, out, others := 0, 0, 0
	for _, o := range m.all {
		if o.State() != m.base {
			continue
		}
		n++
		switch {
		case o.health.phase != serving:
			out++
		case o != e && o.health.sound():
			others++
		}
	}
	return others > 0 && out < max(1, n*int(p.Key.Policy.Passive.MaxEjectedPercent)/100)
}

// endTrial is what the trial has shown.
func (e *Endpoint) endTrial(now time.Time, v Verdict, why cause) {
	p := e.pool
	p.mu.Lock()
	if e.gone || e.health.phase != probing {
		p.mu.Unlock()
		return
	}
	var n news
	switch v {
	case Success:
		n = p.step(e, now, "its trial request succeeded", func(h *health) { h.succeed(now) })
	case Failure:
		p.tally.Ejections.Add(1)
		n = p.step(e, now, "its trial request failed with "+why.String(), func(h *health) { h.extend(now, &p.Key.Policy.Passive) })
	default:
		n = p.step(e, now, "its trial request ended without a result", func(h *health) { h.release(now) })
	}
	p.mu.Unlock()
	p.tell(n)
}

// takeTrial makes a request the trial of an endpoint whose ejection is over, if
// there is one. It waits for nobody: who finds the pool busy goes elsewhere.
func (p *Pool) takeTrial(now time.Time) (t Turn, ok bool) {
	if !p.mu.TryLock() {
		return Turn{}, false
	}
	m := p.members.Load()
	for _, e := range m.all {
		if e.State() != m.base || !e.health.due(now) {
			continue
		}
		n := p.step(e, now, "its ejection is over: one request tries it", func(h *health) { h.try(now) })
		t = e.hold()
		t.trial = true
		p.mu.Unlock()
		p.tell(n)
		return t, true
	}
	p.mu.Unlock()
	return Turn{}, false
}

// news is what has changed, to be told when no lock is held.
type news struct {
	transition plan.Transition // From "": none
	panics     bool            // whether panic is told of
	health     plan.PoolHealth
}

// step changes what is known of an endpoint, and with it who takes requests;
// p.mu is held. What it returns is for tell.
func (p *Pool) step(e *Endpoint, now time.Time, why string, change func(h *health)) (n news) {
	h := &e.health
	before := h.word()
	change(h)
	after := h.word()
	if before != after {
		h.since, h.why = now, why
		e.epoch.Add(1)
		e.fails.Store(0)
		if e.recent != nil {
			e.recent.clear()
		}
		if after == wordServing {
			p.ramp(e, now)
		}
		p.tally.count(before, after)
		n.transition = plan.Transition{Pool: p.Key, Endpoint: e.Addr, From: before, To: after, Why: why, Time: now}
	}
	n.panics = p.publish(p.members.Load().roster)
	if n.panics {
		n.health = p.count()
	}
	return n
}

// tell tells of what has changed; no lock is held.
func (p *Pool) tell(n news) {
	if n.transition.From != "" && p.onTransition != nil {
		p.onTransition(n.transition)
	}
	if n.panics && p.onPanic != nil {
		p.onPanic(p.Key, n.health)
	}
}
