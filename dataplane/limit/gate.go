package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Admission is what a Gate says to a request.
type Admission uint8

// The admissions.
const (
	Admitted Admission = iota // it is inside, until Leave
	Full                      // as many as may wait do already
	Aged                      // it has waited for as long as may be
	Late                      // its deadline passed while it waited
	Gone                      // it was given up while it waited
)

// String returns the admission's word in metrics, logs and debug output.
func (a Admission) String() string {
	return [...]string{"admitted", "queue_full", "queue_age", "deadline", "gone"}[a]
}

// Gate lets a number of requests inside at a time. A number of others wait before
// it and enter in the order in which they came; nobody passes those who wait. It
// may be used by any number of goroutines.
//
//	         limit not reached, nobody waits
//	outside ---------------------------------> inside
//	   |                                        ^   |
//	   | else, if the queue has room            |   | Leave
//	   v                                        |   v
//	waiting ------------------------------------+  outside
//	   |      first of the queue, limit not reached
//	   v
//	outside   by age, deadline or done
//
// How many are inside and how many wait is one word, so that without a queue
// entering and leaving are one atomic operation each, and neither can overlook
// the other: who begins to wait makes whoever leaves afterwards look at the
// queue. The queue itself, and all changes while there is one, are under the
// lock.
type Gate struct {
	state atomic.Uint64 // waiting in the upper half, inside in the lower
	limit atomic.Uint32 // math.MaxUint32: none

	maxAge atomic.Int64 // a time.Duration

	mu          sync.Mutex
	pending     uint32
	first, last *waiter
	unused      *waiter // linked by next
}

// waiter is a place in the queue.
type waiter struct {
	enter      chan struct{} // gets one value when the waiter is inside
	timer      *time.Timer
	next, prev *waiter
	inside     bool
}

// NewGate returns a gate for limit requests inside at a time (0 = no limit) and
// pending ones before it (0 = none waits), each for maxAge at most (0 = up to its
// deadline).
func NewGate(limit, pending uint32, maxAge time.Duration) *Gate {
	g := new(Gate)
	g.limit.Store(orNone(limit))
	g.SetQueue(pending, maxAge)
	return g
}

// SetQueue changes how many may wait and for how long. It holds for those who
// come later.
func (g *Gate) SetQueue(pending uint32, maxAge time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = pending
	g.maxAge.Store(int64(maxAge))
}

func orNone(limit uint32) uint32 {
	if limit == 0 {
		return math.MaxUint32
	}
	return limit
}

// Inside returns how many are.
func (g *Gate) Inside() uint32 { return uint32(g.state.Load()) }

// Waiting returns how many do.
func (g *Gate) Waiting() uint32 { return uint32(g.state.Load() >> 32) }

// Limit returns how many may be inside; 0 = no limit.
func (g *Gate) Limit() uint32 {
	if l := g.limit.Load(); l != math.MaxUint32 {
		return l
	}
	return 0
}

// TryEnter enters if that needs no waiting.
func (g *Gate) TryEnter() bool {
	for {
		s := g.state.Load()
		if s >= uint64(g.limit.Load()) { // or somebody waits
			return false
		}
		if g.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// aliveEvery is how often it is asked whether there is still somebody who waits.
const aliveEvery = time.Second

// Enter enters, and waits for it if need be, until the deadline (zero = none) or
// until alive, which is asked every second, says no (nil = it never does). Who is
// Admitted leaves by Leave, once. now is when the wait begins.
func (g *Gate) Enter(now, deadline time.Time, alive func() bool) Admission {
	if g.TryEnter() {
		return Admitted
	}
	wait, verdict := g.patience(now, deadline)
	if wait <= 0 {
		return verdict
	}
	w, admission := g.queue()
	if w == nil {
		return admission
	}
	return g.dequeue(w, w.await(wait, verdict, alive))
}

// await waits until the waiter may enter or its time is over, for which verdict
// is the word.
func (w *waiter) await(wait time.Duration, verdict Admission, alive func() bool) Admission {
	for {
		step := wait
		if alive != nil {
			step = min(wait, aliveEvery)
		}
		var timeout <-chan time.Time
		if step < math.MaxInt64 {
			timeout = w.alarm(step)
		}
		select {
		case <-w.enter:
			return Admitted
		case <-timeout:
		}
		if wait -= step; wait <= 0 {
			return verdict
		}
		if !alive() {
			return Gone
		}
	}
}

// patience is how long a request may wait, and what it is told after that.
func (g *Gate) patience(now, deadline time.Time) (wait time.Duration, verdict Admission) {
	wait, verdict = math.MaxInt64, Aged
	if age := time.Duration(g.maxAge.Load()); age > 0 {
		wait = age
	}
	if !deadline.IsZero() {
		if left := deadline.Sub(now); left < wait {
			return left, Late
		}
	}
	return wait, verdict
}

// queue enters after all or takes the last place in the queue. w is nil unless
// the caller has to wait.
func (g *Gate) queue() (w *waiter, admission Admission) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		if g.TryEnter() {
			return nil, Admitted
		}
		s := g.state.Load()
		if uint32(s>>32) >= g.pending {
			return nil, Full
		}
		if s < uint64(g.limit.Load()) {
			continue // somebody left since; or the limit rose
		}
		if g.state.CompareAndSwap(s, s+1<<32) {
			break
		}
	}
	if w = g.unused; w != nil {
		g.unused = w.next
	} else {
		w = &waiter{enter: make(chan struct{}, 1)}
	}
	w.next, w.prev, w.inside = nil, g.last, false
	if g.last == nil {
		g.first = w
	} else {
		g.last.next = w
	}
	g.last = w
	return w, Admitted
}

// dequeue ends a wait. Who was let in meanwhile is inside, whatever else
// happened at the same time.
func (g *Gate) dequeue(w *waiter, verdict Admission) Admission {
	if w.timer != nil {
		w.timer.Stop()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.inside {
		if verdict != Admitted {
			<-w.enter
		}
		verdict = Admitted
	} else {
		g.unlink(w)
		g.state.Add(^uint64(1<<32 - 1)) // one less waits
	}
	w.next, w.prev = g.unused, nil
	g.unused = w
	return verdict
}

// Leave ends what an Admitted began.
func (g *Gate) Leave() {
	for {
		s := g.state.Load()
		if s>>32 > 0 {
			break
		}
		if g.state.CompareAndSwap(s, s-1) {
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Add(^uint64(0))
	g.admit()
}

// SetLimit changes how many may be inside; 0 = no limit. Those who are stay, and
// those who wait enter if they now may.
func (g *Gate) SetLimit(limit uint32) {
	if g.limit.Swap(orNone(limit)) == orNone(limit) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admit()
}

// admit lets in those of the queue who may enter. mu is held, and while somebody
// waits nobody enters or leaves without it.
func (g *Gate) admit() {
	for g.first != nil && g.Inside() < g.limit.Load() {
		w := g.first
		g.unlink(w)
		w.inside = true
		g.state.Add(^uint64(1<<32-1) + 1) // one less waits, one more is inside
		w.enter <- struct{}{}
	}
}

// unlink takes a waiter out of the queue. mu is held.
func (g *Gate) unlink(w *waiter) {
	if w.prev == nil {
		g.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		g.last = w.prev
	} else {
		w.next.prev = w.prev
	}
}

// alarm is a channel that gives a value after a time.
func (w *waiter) alarm(after time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(after)
	} else {
		w.timer.Reset(after)
	}
	return w.timer.C
}
