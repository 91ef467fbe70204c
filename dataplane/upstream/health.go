package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// health is what is known of an endpoint beside what Kubernetes says. Two
// witnesses speak, and both have to be content for it to be used: the outcomes
// of requests (phase), and the active checks (failing). Neither overrules the
// other: a check that passes ends no ejection early, and one that fails keeps
// the endpoint out after its ejection is over.
//
//	             too many failures [*]                 the trial fails:
//	   +---------------------------------------+   twice as long as before
//	   |                                       v              |
//	serving                                 ejected <---------+
//	   ^                                       |  ^           |
//	   |                      its time is up,  |  |           |
//	   |                      checks pass:     |  | the trial |
//	   |                      ONE request      |  | says      |
//	   |                      is the trial     v  | nothing   |
//	   +------------------------------------ probing ---------+
//	       the trial succeeds: slow start
//
//	checks, meanwhile:   passing --unhealthyThreshold failures in a row--> failing
//	                     failing --healthyThreshold successes in a row---> passing
//
//	[*] Only while no more than maxEjectedPercent are ejected then, and another
//	    endpoint is left; else it is counted as skipped.
//
// The word for all of it is "unhealthy" when the checks fail, else the phase.
//
// The time of an ejection is BaseEjection, doubled for each one before it in a
// row up to MaxEjection, and up to a tenth more by chance, so that endpoints
// that were ejected together do not come back together. An endpoint that has
// returned takes back one doubling for each time as long as its last ejection
// that it then serves without another one.
//
// It is told the time, starts nothing and takes no lock: its pool does.
type health struct {
	phase   phase
	failing bool

	until    time.Time     // not serving: when a request may try it
	row      int           // ejections in a row
	last     time.Duration // of the last ejection, without chance
	returned time.Time     // from the last ejection

	// since and why are of the last change of the word.
	since time.Time
	why   string
}

const (
	// trialPause is the time between two trials of which the first said nothing.
	trialPause = time.Second
	// TrialLimit is how long a trial keeps other requests from being one: it may
	// be an upload of hours.
	TrialLimit = 2 * time.Minute
)

// phase is what requests say.
type phase uint8

const (
	serving phase = iota
	ejected
	probing
)

// Words for the health of an endpoint, and for what Kubernetes says instead.
const (
	wordServing   = "serving"
	wordEjected   = "ejected"
	wordProbing   = "probing"
	wordUnhealthy = "unhealthy"
)

// word sums both witnesses up.
func (h *health) word() string {
	if h.failing {
		return wordUnhealthy
	}
	return [...]string{serving: wordServing, ejected: wordEjected, probing: wordProbing}[h.phase]
}

// sound reports whether nothing speaks against the endpoint.
func (h *health) sound() bool { return h.phase == serving && !h.failing }

// due reports whether a trial may be made.
func (h *health) due(now time.Time) bool {
	return h.phase != serving && !h.failing && !now.Before(h.until)
}

// eject takes the endpoint out after failures.
func (h *health) eject(now time.Time, c *plan.PassiveCheck) {
	if h.last > 0 {
		h.row = max(0, h.row-int(now.Sub(h.returned)/h.last))
	}
	h.extend(now, c)
}

// extend is an ejection that follows on the one before.
func (h *health) extend(now time.Time, c *plan.PassiveCheck) {
	h.row++
	h.last = ejectionTime(c, h.row)
	h.phase = ejected
	h.until = now.Add(h.last + jitter(h.last))
}

// ejectionTime is the time of the nth ejection in a row, counting from 1.
func ejectionTime(c *plan.PassiveCheck, n int) time.Duration {
	limit := max(c.BaseEjection, c.MaxEjection)
	d := c.BaseEjection
	for ; n > 1 && d < limit; n-- {
		d *= 2
	}
	return min(d, limit)
}

// jitter is up to a tenth of d.
func jitter(d time.Duration) time.Duration {
	if d < 10 {
		return 0
	}
	return rand.N(d / 10)
}

// try makes the next request the trial.
func (h *health) try(now time.Time) { h.phase, h.until = probing, now.Add(TrialLimit) }

// release gives the trial up undecided: another request may be it, a little
// later. Clients that do not wait for a silent endpoint would else be sent to it
// one after another.
func (h *health) release(now time.Time) {
	h.phase, h.until = ejected, now.Add(min(h.last, trialPause))
}

// succeed is the end of a good trial.
func (h *health) succeed(now time.Time) { h.phase, h.returned = serving, now }

// forgive forgets what requests have said.
func (h *health) forgive() {
	h.phase, h.row, h.last = serving, 0, 0
}
