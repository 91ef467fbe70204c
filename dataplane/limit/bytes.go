package limit

import "sync/atomic"

// ByteBudget bounds the bytes that are held in buffers, as a rule in the whole
// process. It may be used by any number of goroutines.
type ByteBudget struct {
	limit, used, high atomic.Int64
}

// NewByteBudget returns a budget of a number of bytes.
func NewByteBudget(limit int64) *ByteBudget {
	b := new(ByteBudget)
	b.SetLimit(limit)
	return b
}

// SetLimit changes how many bytes there are. When more are taken already, none
// can be taken until enough were released.
func (b *ByteBudget) SetLimit(limit int64) { b.limit.Store(limit) }

// TryReserve takes n bytes if there are as many. They are to be released when
// their memory is really free for others to use, and not before.
func (b *ByteBudget) TryReserve(n int64) bool {
	for {
		used := b.used.Load()
		if n < 0 || n > b.limit.Load()-used {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			b.raise(used + n)
			return true
		}
	}
}

func (b *ByteBudget) raise(used int64) {
	for {
		high := b.high.Load()
		if used <= high || b.high.CompareAndSwap(high, used) {
			return
		}
	}
}

// Release gives back n bytes that were taken.
func (b *ByteBudget) Release(n int64) {
	if b.used.Add(-n) < 0 {
		panic("limit: more bytes released than were reserved")
	}
}

// Used returns the bytes that are taken now.
func (b *ByteBudget) Used() int64 { return b.used.Load() }

// High returns the most bytes that ever were taken at a time.
func (b *ByteBudget) High() int64 { return b.high.Load() }

// Limit returns how many bytes there are.
func (b *ByteBudget) Limit() int64 { return b.limit.Load() }
