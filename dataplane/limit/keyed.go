package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ways is how many keys a set of a Keyed holds.
	ways = 8
	// leastSets is how many sets a Keyed has in any case, in 1,152 bytes, unless
	// it is for fewer keys.
	leastSets = 8
)

// Keyed is a token bucket for each key, of a bounded number of keys: 18 bytes for
// each. It begins with a few, and with more comes to more, up to its capacity, as
// far as its KeyBudget has them. It may be used by any number of goroutines, and
// is told the time.
//
// A key is known by 64 bits of a seeded hash, which also say the set of eight
// that it belongs to. A bucket that is full again is as good as none, so its
// place is free. When a set has no free place, and there are no more sets to be
// had, a new key takes over the bucket that is nearest to full, with what was
// taken from it, if it can. That errs on the strict side only: a newcomer may find
// fewer tokens than it deserves, but no key, and no flood of keys, ever gets a full
// bucket by pushing others out. A key that was pushed out and comes back finds a
// bucket that is no fuller than its own would be, because its own was the fullest.
// So each key is let through its burst and its rate at most, and all keys together
// no more than as many buckets as there are. That the number of sets changes does
// not change that: see set.floor.
type Keyed struct {
	rate   Rate
	seed   maphash.Seed
	budget *KeyBudget
	pace   atomic.Pointer[pace]
	sets   atomic.Pointer[[]set] // as many as a power of two
	most   atomic.Int64          // how many there may be
	// until is when all buckets are full again, or up to untilStep later, in
	// nanoseconds since KeyBudget.start.
	until atomic.Int64

	at int // in KeyBudget.grown; -1: it is not there; guarded by its mutex
}

// untilStep keeps Keyed.until from being written at every turn.
const untilStep = int64(time.Second)

// set is a few buckets that share a lock, which is held for some nanoseconds. Times
// are nanoseconds since KeyBudget.start.
type set struct {
	mu   sync.Mutex
	keys [ways]uint64
	full [ways]int64 // 0 in places never used
	// floor is the latest that a bucket is full which was pushed out of here, or
	// of a set that this one comes from. What begins anew begins no earlier than
	// that: while a set has as many places as it had, all of them are later
	// anyway, but it may have got more.
	floor int64
}

// NewKeyed returns full buckets for at least as many keys as capacity says. Those
// beyond the first 64 are had as far as the budget goes.
func NewKeyed(r Rate, capacity int, b *KeyBudget) *Keyed {
	most := 1
	for most*ways < capacity {
		most *= 2
	}
	k := &Keyed{rate: r, seed: maphash.MakeSeed(), budget: b, at: -1}
	k.most.Store(int64(most))
	sets := make([]set, min(most, leastSets))
	k.sets.Store(&sets)
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
	return k.take(maphash.Bytes(k.seed, key), int64(now.Sub(k.budget.start)))
}

func (k *Keyed) take(hash uint64, now int64) Verdict {
	for {
		sets := k.sets.Load()
		s := &(*sets)[hash&uint64(len(*sets)-1)]
		s.mu.Lock()
		if k.sets.Load() != sets { // there are others meanwhile
			s.mu.Unlock()
			continue
		}
		i, known := s.find(hash)
		if !known && s.full[i] > now && k.mayGrow(len(*sets), now) {
			s.mu.Unlock()
			k.budget.grow(k, sets, now) // when it could not, mayGrow says so
			continue
		}
		v := k.takeAt(s, i, hash, known, now)
		s.mu.Unlock()
		return v
	}
}

// takeAt takes a token of the bucket at a place of a set, which the key has or would
// have.
func (k *Keyed) takeAt(s *set, i int, hash uint64, known bool, now int64) Verdict {
	full := s.full[i]
	if !known {
		full = max(full, s.floor)
	}
	next, v := k.pace.Load().take(full, now)
	if !v.OK {
		return v
	}
	if !known {
		s.floor = max(s.floor, s.full[i])
	}
	s.keys[i], s.full[i] = hash, next
	for until := k.until.Load(); next > until; until = k.until.Load() {
		if k.until.CompareAndSwap(until, next+untilStep) {
			break
		}
	}
	return v
}

// find returns the place of a key or, when it is not known, of the bucket nearest
// to full.
func (s *set) find(hash uint64) (i int, known bool) {
	fullest := 0
	for i, h := range s.keys {
		if h == hash {
			return i, true
		}
		if s.full[i] < s.full[fullest] {
			fullest = i
		}
	}
	return fullest, false
}

func (k *Keyed) mayGrow(sets int, now int64) bool {
	return int64(sets) < k.most.Load() && now >= k.budget.noneFor(sets).Load()
}

// resize gives k another number of sets, with what the ones before had. Of fewer
// sets each keeps the buckets that are furthest from full. The budget's mutex is
// held, so that there is one at a time.
func (k *Keyed) resize(n int) {
	old := *k.sets.Load()
	sets := make([]set, n)
	for i := range old {
		s := &old[i]
		s.mu.Lock() // until all is moved
		for to := i & (n - 1); to < n; to += len(old) {
			sets[to].floor = max(sets[to].floor, s.floor)
		}
		for place, hash := range s.keys {
			sets[hash&uint64(n-1)].put(hash, s.full[place])
		}
	}
	k.sets.Store(&sets)
	for i := range old {
		old[i].mu.Unlock()
	}
}

// put takes in the bucket of a key that is not there, or notes that it was pushed
// out.
func (s *set) put(hash uint64, full int64) {
	i, _ := s.find(hash)
	if full <= s.full[i] {
		s.floor = max(s.floor, full)
		return
	}
	s.floor = max(s.floor, s.full[i])
	s.keys[i], s.full[i] = hash, full
}

// Retire gives back what k has of its budget: it will hardly be used any more, and
// comes to no more keys.
func (k *Keyed) Retire() { k.budget.retire(k) }
