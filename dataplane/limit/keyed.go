package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// ways is how many keys a set of a Keyed holds.
const ways = 8

// Keyed is a token bucket for each key, of a number of keys that is fixed: its
// memory, 17 bytes a key, is all there when it is made. It may be used by any
// number of goroutines, and is told the time.
//
// A key is known by 64 bits of a seeded hash, which also say the set of eight
// that it belongs to. A bucket that is full again is as good as none, so its
// place is free. When a set has no free place, a new key takes over the bucket
// that is nearest to full, with what was taken from it, if it can. That errs on
// the strict side only: a newcomer may find fewer tokens than it deserves, but
// no key, and no flood of keys, ever gets a full bucket by pushing others out.
// A key that was pushed out and comes back finds a bucket that is no fuller
// than its own would be, because its own was the fullest. So each key is let
// through its burst and its rate at most, and all keys together no more than as
// many buckets as there are.
type Keyed struct {
	rate  Rate
	start time.Time
	seed  maphash.Seed
	pace  atomic.Pointer[pace]
	sets  []set
}

// set is a few buckets that share a lock, which is held for some nanoseconds.
type set struct {
	mu   sync.Mutex
	keys [ways]uint64
	full [ways]int64 // nanoseconds since Keyed.start; 0 in places never used
}

// NewKeyed returns full buckets for at least as many keys as capacity says.
func NewKeyed(r Rate, capacity int, now time.Time) *Keyed {
	sets := 1
	for sets*ways < capacity {
		sets *= 2
	}
	k := &Keyed{rate: r, start: now, seed: maphash.MakeSeed(), sets: make([]set, sets)}
	k.Share(1)
	return k
}

// Share divides the rate and the burst among a number of replicas from now on;
// less than one counts as one. How full each bucket is, in parts of the burst,
// stays. It may be called for every request: the last call is what counts, and it
// costs little when nothing changes.
func (k *Keyed) Share(replicas int) {
	p := k.rate.pace(replicas)
	if old := k.pace.Load(); old == nil || *old != p {
		changed := p // what is stored escapes, and most of the time nothing is
		k.pace.Store(&changed)
	}
}

// Take takes a token of a key's bucket, if there is one. The key is not kept;
// keys of different kinds must differ in their bytes.
func (k *Keyed) Take(key []byte, now time.Time) Verdict {
	return k.take(maphash.Bytes(k.seed, key), int64(now.Sub(k.start)))
}

func (k *Keyed) take(hash uint64, now int64) Verdict {
	s := &k.sets[hash&uint64(len(k.sets)-1)]
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(hash)
	next, v := k.pace.Load().take(s.full[i], now)
	if v.OK {
		s.keys[i], s.full[i] = hash, next
	}
	return v
}

// find returns the place of a key or, when it has none, of the bucket nearest to
// full.
func (s *set) find(hash uint64) int {
	fullest := 0
	for i, h := range s.keys {
		if h == hash {
			return i
		}
		if s.full[i] < s.full[fullest] {
			fullest = i
		}
	}
	return fullest
}
