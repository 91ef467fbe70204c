package limit

import (
	"math"
	"sync/atomic"
	"time"
)

// Rate is what a token bucket lets through: Count in Period, evenly, and Burst at
// once. It is comparable. A Rate without Count or Period lets nothing through
// but the first Burst; Burst 0 is taken as 1.
type Rate struct {
	Count  uint32
	Period time.Duration
	Burst  uint32
}

// Verdict is what a token bucket says to a request.
type Verdict struct {
	OK bool
	// Remaining is how many more would be let through now.
	Remaining uint32
	// Reset is the time until the bucket is full again.
	Reset time.Duration
	// RetryAfter is the time until one is let through; 0 when OK.
	RetryAfter time.Duration
}

// The algorithm is that of ATM networks (ITU-T I.371, GCRA). All that is kept is
// the time at which the bucket will be full again. A request moves it on by its
// cost, the time in which one token drops; it may not be further ahead of now
// than the depth, the time in which all of the burst drops.
//
//	         |<------------ depth ------------>|
//	  now ---+-----------------+---------------+-----> time
//	         |                 full            |
//	         |<- tokens taken ->|<- remaining ->|
//
// So in any period of length t no more than burst + t/cost are let through.

// forever is the depth of a rate that has no tokens to come: some 30 years, and
// a sum of some of them is still a time.
const forever = 1 << 60

// pace is a Rate as the algorithm needs it, in nanoseconds.
type pace struct{ cost, depth int64 }

// pace returns the share of a rate that one of several replicas gives. The depth
// stays the same, because both the burst and the speed at which it comes back
// are divided: a bucket that is half full stays half full. A share lets at least
// one through at a time.
func (r Rate) pace(replicas int) pace {
	n, burst := int64(max(replicas, 1)), int64(max(r.Burst, 1))
	if r.Count == 0 || r.Period <= 0 {
		return pace{cost: forever / burst, depth: forever}
	}
	// Rounded up: never more than the rate.
	cost := (int64(r.Period)-1)/int64(r.Count) + 1
	if cost > forever/max(burst, n) {
		return pace{cost: forever / burst, depth: forever}
	}
	return pace{cost: cost * n, depth: cost * max(burst, n)}
}

// take returns the new time at which a bucket is full, if the request goes
// through, and the verdict. Times are nanoseconds since the same start.
func (p pace) take(full, now int64) (next int64, v Verdict) {
	full = max(full, now)
	next = full + p.cost
	if early := next - now - p.depth; early > 0 {
		return full, Verdict{Reset: time.Duration(full - now), RetryAfter: time.Duration(early)}
	}
	remaining := min((p.depth-(next-now))/p.cost, math.MaxUint32)
	return next, Verdict{OK: true, Remaining: uint32(remaining), Reset: time.Duration(next - now)}
}

// Bucket is one token bucket, for any number of goroutines. It starts full.
type Bucket struct {
	pace  pace
	start time.Time
	full  atomic.Int64 // nanoseconds since start
}

// NewBucket returns a full bucket.
func NewBucket(r Rate, now time.Time) *Bucket {
	return &Bucket{pace: r.pace(1), start: now}
}

// Take takes a token, if there is one.
func (b *Bucket) Take(now time.Time) Verdict {
	at := int64(now.Sub(b.start))
	for {
		full := b.full.Load()
		next, v := b.pace.take(full, at)
		if !v.OK || b.full.CompareAndSwap(full, next) {
			return v
		}
	}
}
