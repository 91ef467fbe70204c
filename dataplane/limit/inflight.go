package limit

import "sync/atomic"

// InFlight counts what is going on at a time. The zero value counts from zero.
// It may be used by any number of goroutines.
type InFlight struct{ n atomic.Int64 }

// Acquire counts one more, if there are fewer than limit; 0 = no limit. The
// limit is not kept, so a rule may change it and keep what is counted. What was
// acquired is to be released once.
func (f *InFlight) Acquire(limit uint32) bool {
	if limit == 0 {
		f.n.Add(1)
		return true
	}
	for {
		n := f.n.Load()
		if n >= int64(limit) {
			return false
		}
		if f.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release counts one less.
func (f *InFlight) Release() { f.n.Add(-1) }

// Load returns how many there are.
func (f *InFlight) Load() int64 { return f.n.Load() }
