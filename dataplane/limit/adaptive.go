package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Adaptive finds how many requests a pool does well at a time. It is told how
// long they take and compares that with how long they take without a queue: the
// limit is right when the one is a little above the other. It may be used by any
// number of goroutines, and is told the time.
//
//	     +-----------------------------+
//	     v      each window: limit     | probeEvery windows, or
//	+---------+ x gradient + headroom  | probeAtMin at the minimum
//	| serving |------------------------+----> limit halved
//	+---------+                                   |
//	     ^        limit as before, or a little    v
//	     |        more; base as measured     +---------+
//	     +-----------------------------------| probing |
//	                                         +---------+
//
// gradient = tolerance x base / mean of the window, within [1/2, 1], so a step in
// latency of more than twice the tolerance halves the limit in one window; the
// headroom, the limit's square root, lets it grow when nothing is wrong. Base is
// the latency without a queue. It cannot be seen under a limit that always lets
// a queue form, and it may change for good; so now and then the limit is halved
// for a window, and what is measured in it is the base from then on. That
// converges from any base: too high a base makes too high a limit, whose half
// has a shorter queue, whose base is lower. A pool that does not fill half of its
// limit pays nothing for it.
//
// The idea is that of Netflix's concurrency-limits (Gradient2) and Envoy's
// adaptive concurrency, which measure their base by a slow average and at a
// limit of three.
type Adaptive struct {
	min, max float64
	start    time.Time

	limit  atomic.Uint32
	opened atomic.Int64 // when the window began, since start
	// tally of the window: a sum of microseconds in the upper 44 bits, 200 days,
	// and how many in the lower 20.
	tally atomic.Uint64
	peak  atomic.Uint32 // most inside in the window

	mu      sync.Mutex // held by who closes a window
	exact   float64    // the limit of serving
	base    float64    // microseconds; 0 = not known yet
	windows int        // since the last probe
	atMin   int        // of them, at the minimum and in a row, the last ones
	probing bool
}

const (
	// A window lasts for windowTime and windowSamples, whatever comes later.
	windowTime    = 100 * time.Millisecond
	windowSamples = 25
	// tolerance of a mean over the base, for what varies anyway.
	tolerance  = 1.25
	probeEvery = 50
	probeAtMin = 5
	// firstLimit is where the search begins.
	firstLimit = 20
	// longest that a sample counts for, so that the tally cannot run over.
	longest   = time.Minute
	countBits = 20
)

// NewAdaptive returns a limit that nothing is known of yet.
func NewAdaptive(p plan.AdaptiveConcurrency, now time.Time) *Adaptive {
	a := &Adaptive{min: float64(max(p.MinRequests, 1)), start: now}
	a.max = max(float64(p.MaxRequests), a.min)
	a.exact = min(max(firstLimit, a.min), a.max)
	a.limit.Store(uint32(a.exact))
	return a
}

// Limit returns how many requests may be inside now, 1 or more.
func (a *Adaptive) Limit() uint32 { return a.limit.Load() }

// Observe takes in a request that was answered well or timed out, when it began,
// and how many are inside with it, and reports whether the limit changed. What
// failed fast must not be told: it would look like a fast pool. Requests that
// began before the window did are left out, because they saw another limit.
func (a *Adaptive) Observe(began, now time.Time, inside uint32) (changed bool) {
	at := int64(now.Sub(a.start))
	opened := a.opened.Load()
	if int64(began.Sub(a.start)) < opened {
		return false
	}
	if inside > a.peak.Load() {
		a.peak.Store(inside) // of two at once either will do
	}
	took := uint64(min(max(now.Sub(began), 0), longest) / time.Microsecond)
	t := a.tally.Add(took<<countBits | 1)
	if t&(1<<countBits-1) < windowSamples || at-opened < int64(windowTime) || !a.mu.TryLock() {
		return false
	}
	defer a.mu.Unlock()
	if a.opened.Load() != opened {
		return false // somebody else has just closed it
	}
	t = a.tally.Swap(0)
	a.opened.Store(at)
	mean := float64(t>>countBits) / float64(t&(1<<countBits-1))
	before := a.limit.Load()
	a.limit.Store(uint32(a.next(max(mean, 1), float64(a.peak.Swap(0)))))
	return a.limit.Load() != before
}

// next takes in the mean of a window and the most that were inside, and returns
// the limit of the next one. mu is held.
func (a *Adaptive) next(mean, peak float64) float64 {
	if a.probing {
		a.probing, a.windows, a.atMin = false, 0, 0
		a.base = mean
		return a.exact
	}
	if a.base == 0 {
		a.base = mean
	}
	a.base = min(a.base, (3*a.base+mean)/4) // one fast window may be chance
	a.adjust(mean, peak)
	a.windows++
	if a.exact > a.min {
		a.atMin = 0
	} else {
		a.atMin++
	}
	if a.windows >= probeEvery || a.atMin >= probeAtMin {
		a.probing = true
		return max(a.exact/2, a.min)
	}
	return a.exact
}

func (a *Adaptive) adjust(mean, peak float64) {
	gradient := min(max(tolerance*a.base/mean, 0.5), 1)
	next := a.exact*gradient + math.Sqrt(a.exact)
	if gradient <= 0.5 {
		next = a.exact / 2 // no headroom for what is that slow
	}
	if next > a.exact && peak < a.exact/2 {
		return // the limit is not what holds the pool back
	}
	a.exact = min(max(next, a.min), a.max)
}
