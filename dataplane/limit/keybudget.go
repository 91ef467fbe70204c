package limit

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// growth is by how much the sets of a Keyed become more at a time, or fewer.
	growth = 4
	// nonePause is for how long nobody looks for keys again that were not there:
	// a flood would have every request look.
	nonePause = int64(100 * time.Millisecond)
)

// KeyBudget bounds the keys that any number of Keyed tell apart, as a rule in the
// whole process, beside the first 64 that each has. It may be used by any number
// of goroutines.
//
// When nothing is left, who needs more gets it from one whose buckets are all full
// again, or from one that has more than it will have then. So few can have many keys
// while the others have few, and when all are flooded all have about the same: no
// flood of one takes from another what is its part.
type KeyBudget struct {
	start time.Time
	// none is until when nothing is to be had for who has so many sets, by their
	// bits, in nanoseconds since start.
	none [bits.UintSize]atomic.Int64

	mu    sync.Mutex
	total int
	left  int
	grown []*Keyed // that have more than the least
}

// NewKeyBudget returns a budget of a number of keys.
func NewKeyBudget(keys int, now time.Time) *KeyBudget {
	return &KeyBudget{start: now, total: keys, left: keys}
}

// Used returns how many of the keys are taken. Not all of them need to be in use.
func (b *KeyBudget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total - b.left
}

func (b *KeyBudget) noneFor(sets int) *atomic.Int64 { return &b.none[bits.Len(uint(sets))-1] }

// grow gives k more sets than those, if there are.
func (b *KeyBudget) grow(k *Keyed, have *[]set, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(*have)
	if k.sets.Load() != have || int64(n) >= k.most.Load() {
		return // it has been done, or is not to be any more
	}
	size := int(min(int64(n*growth), k.most.Load()))
	for b.left < (size-n)*ways {
		v, idle := b.richer(size, now)
		switch {
		case v == nil:
			none := b.noneFor(n)
			none.Store(max(none.Load(), now+nonePause))
			return
		case idle:
			b.give(v, leastSets)
		default:
			b.give(v, max(len(*v.sets.Load())/growth, leastSets))
		}
	}
	b.give(k, size)
}

// richer is who is to have fewer keys so that another one has that many sets: one
// whose buckets are all full, else the one with the most sets, if it has more.
func (b *KeyBudget) richer(sets int, now int64) (v *Keyed, idle bool) {
	for _, k := range b.grown {
		if k.until.Load() <= now {
			return k, true
		}
		if n := len(*k.sets.Load()); n > sets {
			v, sets = k, n
		}
	}
	return v, false
}

// give gives k so many sets, leastSets at least, and takes the difference from what
// is left, or adds it; mu is held.
func (b *KeyBudget) give(k *Keyed, sets int) {
	b.left -= (sets - len(*k.sets.Load())) * ways
	k.resize(sets)
	switch more := sets > leastSets; {
	case more && k.at < 0:
		k.at = len(b.grown)
		b.grown = append(b.grown, k)
	case !more && k.at >= 0:
		last := b.grown[len(b.grown)-1]
		b.grown[k.at], last.at = last, k.at
		b.grown[len(b.grown)-1] = nil
		b.grown = b.grown[:len(b.grown)-1]
		k.at = -1
	}
}

// retire is Keyed.Retire.
func (b *KeyBudget) retire(k *Keyed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k.most.Store(min(k.most.Load(), leastSets))
	if k.at >= 0 {
		b.give(k, leastSets)
	}
}
