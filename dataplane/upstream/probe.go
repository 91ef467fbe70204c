package upstream

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// maxParallelChecks bounds the checks of a pool that run at the same time.
	maxParallelChecks = 128
	// minInterval bounds how often a plan can make an endpoint be checked.
	minInterval = 100 * time.Millisecond
	// maxWarmUp bounds the wait for the first results of a pool.
	maxWarmUp = 10 * time.Second
)

// probe is the state of an endpoint's active checks. The pool's mutex guards it.
type probe struct {
	due     time.Time // of the next check; zero: at once
	running bool
	stop    context.CancelFunc // ends the check that runs; nil: none does

	seen      bool // there was a result, of this pool's own
	passes    bool // the last one was good
	good, bad uint16
}

// cancel ends the check that runs.
func (b *probe) cancel() {
	if b.stop != nil {
		b.stop()
	}
}

// startProbing checks the pool's endpoints until ctx ends or the pool retires.
// There is one goroutine for the pool, and one for each check while it runs. A
// pool that has them, or has retired, gets none.
func (p *Pool) startProbing(ctx context.Context, dial Dial, all *sync.WaitGroup) {
	if p.Key.Policy.Active.Type == plan.CheckNone {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || !p.checked.IsZero() {
		return
	}
	p.checked = time.Now()
	ctx, p.stop = context.WithCancel(ctx)
	check := newChecker(&p.Key.Policy.Active, dial)
	all.Go(func() {
		defer check.close()
		var running sync.WaitGroup
		defer running.Wait()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			case <-p.wake:
			}
			due, next := p.dueChecks(time.Now())
			for _, e := range due {
				running.Go(func() { p.runCheck(ctx, e, check) })
			}
			timer.Reset(next)
		}
	})
}

// nudge makes the prober look at once.
func (p *Pool) nudge() {
	select {
	case p.wake <- struct{}{}:
	default: // it will
	}
}

// dueChecks returns the endpoints to check now, marked as being checked, and how
// long there is nothing to do after that unless a check ends. Only those are
// checked that Kubernetes calls ready: of the others it has said enough.
func (p *Pool) dueChecks(now time.Time) (due []*Endpoint, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := maxParallelChecks
	next = time.Hour
	for _, e := range p.members.Load().all {
		b := &e.probe
		switch {
		case b.running:
			free--
		case e.State() != plan.Ready:
		case now.Before(b.due):
			next = min(next, b.due.Sub(now))
		default:
			due = append(due, e)
		}
	}
	if len(due) > free {
		// Who has waited longest goes first: else some would never be checked.
		slices.SortStableFunc(due, func(a, b *Endpoint) int { return a.probe.due.Compare(b.probe.due) })
		due = due[:max(free, 0)]
	}
	for _, e := range due {
		e.probe.running = true
	}
	return due, next
}

// runCheck checks an endpoint once and says when the next time is.
func (p *Pool) runCheck(ctx context.Context, e *Endpoint, check *checker) {
	c := &p.Key.Policy.Active
	interval := max(c.Interval, minInterval)
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = interval
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	p.mu.Lock()
	e.probe.stop = stop
	first := !e.probe.seen
	gone := e.gone
	p.mu.Unlock()
	if gone {
		return
	}
	err := check.check(ctx, e.Addr)
	p.mu.Lock()
	e.probe.running, e.probe.stop = false, nil
	e.probe.due = began.Add(wait(interval, c.JitterPercent, first))
	var n news
	// A check that was ended from outside, or could not be begun, has found nothing
	// out.
	ended := ctx.Err() != nil && ctx.Err() != context.DeadlineExceeded
	if err == nil || !ended && !IsShortage(err) {
		n = p.checkedOnce(e, time.Now(), err)
	}
	p.mu.Unlock()
	p.tell(n)
	p.nudge()
}

// wait is the time from the start of a check to that of the next one. Behind the
// first one, which is made at once, it is any part of an interval, so that the
// checks of endpoints that came together are spread over time.
func wait(interval time.Duration, jitterPercent uint8, first bool) time.Duration {
	if first {
		return rand.N(interval) + 1
	}
	spread := interval * time.Duration(min(jitterPercent, 100)) / 100
	return interval - spread + rand.N(2*spread+1)
}

// checkedOnce takes the result of a check to the endpoint's record; p.mu is
// held. A verdict that was inherited from another policy ends with the first
// good check of this one's.
func (p *Pool) checkedOnce(e *Endpoint, now time.Time, err error) (n news) {
	if e.gone {
		return news{}
	}
	b, c, inherited := &e.probe, &p.Key.Policy.Active, !e.probe.seen
	b.seen, b.passes = true, err == nil
	if err == nil {
		p.tally.ProbesGood.Add(1)
		b.bad = 0
		b.good = min(b.good, 1<<15) + 1
		if e.health.failing && (inherited || b.good >= c.HealthyThreshold) {
			why := "its checks pass again"
			if e.health.phase != serving {
				why += "; failed requests still keep it out"
			}
			return p.step(e, now, why, func(h *health) { h.failing = false })
		}
		return news{}
	}
	p.tally.ProbesBad.Add(1)
	b.good = 0
	b.bad = min(b.bad, 1<<15) + 1
	if !e.health.failing && b.bad >= c.UnhealthyThreshold {
		return p.step(e, now, "its checks fail: "+err.Error(), func(h *health) { h.failing = true })
	}
	return news{}
}

// warm reports whether every endpoint that is checked has had a first result, or
// has been waited for long enough.
func (p *Pool) warm(now time.Time) bool {
	c := &p.Key.Policy.Active
	if c.Type == plan.CheckNone {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checked.IsZero() {
		return false
	}
	if !now.Before(p.checked.Add(min(c.Timeout+time.Second, maxWarmUp))) {
		return true
	}
	for _, e := range p.members.Load().all {
		if e.State() == plan.Ready && !e.probe.seen {
			return false
		}
	}
	return true
}

// passes reports whether an endpoint's last check was good; true for a pool
// without checks.
func (p *Pool) passes() bool {
	if p.Key.Policy.Active.Type == plan.CheckNone {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.members.Load().all {
		if e.State() == plan.Ready && e.probe.passes && !e.health.failing {
			return true
		}
	}
	return false
}
