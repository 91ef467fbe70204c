package retry

import (
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// slots is how many parts the interval of a budget is counted in.
const slots = 10

// Budget bounds the retries of a pool. It may be used by any number of
// goroutines, takes no lock, and is told the time.
//
// Retries are paid from the share of the requests of the last interval, if it
// has anything left, and else from the floor, a token bucket. In any period of
// length t no more are paid than
//
//	percent/100 x requests in the period and the interval before it
//	+ minCount x (1 + t/minInterval)
//
// and, since the start, percent/100 x all requests + minCount x (1 +
// t/minInterval). For at each payment from the share those of the last interval
// are within the share of the same interval; going back from the last payment
// by one interval at a time, disjoint intervals cover all of them.
type Budget struct {
	percent uint64
	width   time.Duration // of a slot; 0 = no share
	start   time.Time
	floor   *limit.Bucket // nil: none

	// The rings of the last slots. A slot's number in the upper half, so that one
	// left over from an earlier turn of the ring is seen; the count below.
	requests, retries [slots]atomic.Uint64
}

// NewBudget returns a budget that has seen no requests yet.
func NewBudget(b plan.RetryBudget, now time.Time) *Budget {
	n := &Budget{percent: uint64(b.Percent), start: now}
	if b.Interval > 0 {
		n.width = max(b.Interval/slots, 1)
	}
	if b.MinCount > 0 && b.MinInterval > 0 {
		n.floor = limit.NewBucket(limit.Rate{Count: b.MinCount, Period: b.MinInterval, Burst: b.MinCount}, now)
	}
	return n
}

// Deposit counts a request of the pool: each once, whatever its attempts.
func (b *Budget) Deposit(now time.Time) {
	if b.width > 0 {
		add(&b.requests, b.slot(now))
	}
}

// Withdraw takes what a retry costs; false: the budget is used up, and nothing
// was taken.
func (b *Budget) Withdraw(now time.Time) bool {
	return b.fromShare(now) || b.floor != nil && b.floor.Take(now).OK
}

// fromShare counts a retry first and then looks whether there was room for it, so
// that of two at the same time the later one sees both.
func (b *Budget) fromShare(now time.Time) bool {
	if b.width == 0 || b.percent == 0 {
		return false
	}
	slot := b.slot(now)
	if retries, share := b.look(slot); retries >= share {
		return false // most of the time in a storm, and without a write
	}
	counted := add(&b.retries, slot)
	if retries, share := b.look(slot); retries <= share {
		return true
	}
	remove(&b.retries, counted)
	return false
}

// look returns the retries of the interval that ends with a slot, and the share
// of its requests, both times 100. When somebody else has begun a later slot and
// with it dropped the oldest retries, the oldest requests do not count either.
func (b *Budget) look(slot uint32) (retries, share uint64) {
	retries, newest := sum(&b.retries, slot)
	requests, _ := sum(&b.requests, newest)
	return retries * 100, requests * b.percent
}

func (b *Budget) slot(now time.Time) uint32 {
	return uint32(max(now.Sub(b.start), 0) / b.width)
}

// add counts one in a slot and returns the number of the slot that has it: a
// later one, if the time of somebody else is a turn of the ring ahead.
func add(ring *[slots]atomic.Uint64, slot uint32) uint32 {
	place := &ring[slot%slots]
	for {
		v := place.Load()
		if number := uint32(v >> 32); number == slot || later(number, slot) {
			return uint32(place.Add(1) >> 32)
		}
		if place.CompareAndSwap(v, uint64(slot)<<32|1) {
			return slot
		}
	}
}

// remove takes one back that add counted in the slot, unless the slot is gone.
func remove(ring *[slots]atomic.Uint64, slot uint32) {
	place := &ring[slot%slots]
	for {
		v := place.Load()
		if uint32(v>>32) != slot || place.CompareAndSwap(v, v-1) {
			return
		}
	}
}

// sum adds the slots of the interval that ends with the given one. Later ones,
// by the time of somebody else, belong to it; newest is the last of them.
func sum(ring *[slots]atomic.Uint64, slot uint32) (n uint64, newest uint32) {
	newest = slot
	for i := range ring {
		v := ring[i].Load()
		number := uint32(v >> 32)
		if later(number+slots, slot) {
			n += v & (1<<32 - 1)
		}
		if later(number, newest) {
			newest = number
		}
	}
	return n, newest
}

// later compares numbers of slots, which wrap around after years.
func later(a, b uint32) bool { return int32(a-b) > 0 }
