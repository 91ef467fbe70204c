package upstream

import (
	"sync/atomic"
	"time"
)

// windowBuckets is how finely a window slides.
const windowBuckets = 10

// window counts the outcomes of the recent past in buckets of time. Its memory
// is fixed; any number of goroutines may add to it.
//
// A bucket is one word, so that a count can neither be lost nor be put to the
// wrong time: the number of its turn (20 bits), all outcomes (22 bits) and the
// failures among them (22 bits). Counts stop at 4 million a bucket. Turn numbers
// repeat after a million buckets, which is days; a bucket that nobody has
// touched for exactly that long would count once more.
type window struct {
	width   int64 // of a bucket, in ns
	buckets [windowBuckets]atomic.Uint64
}

const (
	countBits = 22
	countMax  = 1<<countBits - 1
	turnMax   = 1<<20 - 1
)

// newWindow returns a window over the given time; 0 counts as ten seconds.
func newWindow(over time.Duration) *window {
	if over <= 0 {
		over = 10 * time.Second
	}
	return &window{width: max(int64(over)/windowBuckets, 1)}
}

// add counts an outcome at the time t, in ns since any fixed moment.
func (w *window) add(t int64, failed bool) {
	n := t / w.width
	b := &w.buckets[n%windowBuckets]
	turn := uint64(n) & turnMax << (2 * countBits)
	for {
		old := b.Load()
		next := old
		if old&^(1<<(2*countBits)-1) != turn {
			next = turn
		}
		if next>>countBits&countMax < countMax {
			next += 1 << countBits
			if failed {
				next++
			}
		}
		if b.CompareAndSwap(old, next) {
			return
		}
	}
}

// sum returns the outcomes of the window that ends at t.
func (w *window) sum(t int64) (all, failed uint64) {
	n := t / w.width
	for i := range int64(windowBuckets) {
		m := n - i
		if m < 0 {
			break
		}
		v := w.buckets[m%windowBuckets].Load()
		if v>>(2*countBits) != uint64(m)&turnMax {
			continue
		}
		all += v >> countBits & countMax
		failed += v & countMax
	}
	return all, failed
}

// clear forgets everything.
func (w *window) clear() {
	for i := range w.buckets {
		w.buckets[i].Store(0)
	}
}
