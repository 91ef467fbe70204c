package telemetry

import (
	"sync/atomic"
	"time"
)

// bucketBounds are the upper bounds of the duration histograms, inclusive.
// They span what is normal behind a proxy, from a cache's answer to the built-in
// limit of 60 s on a backend's response header, at two to three a decade.
var bucketBounds = [...]time.Duration{
	time.Millisecond,
	2500 * time.Microsecond,
	5 * time.Millisecond,
	10 * time.Millisecond,
	25 * time.Millisecond,
	50 * time.Millisecond,
	100 * time.Millisecond,
	250 * time.Millisecond,
	500 * time.Millisecond,
	time.Second,
	2500 * time.Millisecond,
	5 * time.Second,
	10 * time.Second,
	30 * time.Second,
	60 * time.Second,
}

// bucketCount counts the bucket of what is above the last bound, too.
const bucketCount = len(bucketBounds) + 1

// histogram counts durations. The number of observations is the sum of the
// buckets, so the two always agree; the sum of the durations may be ahead or
// behind by the observations being made while it is read.
type histogram struct {
	buckets [bucketCount]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds
}

// observe counts d; a negative one as zero.
func (h *histogram) observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bucketBounds) && d > bucketBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(uint64(d))
}

// histogramTotal is the sum of several histograms, as read once.
type histogramTotal struct {
	buckets [bucketCount]uint64
	sum     uint64 // nanoseconds
}

func (t *histogramTotal) add(h *histogram) {
	for i := range h.buckets {
		t.buckets[i] += h.buckets[i].Load()
	}
	t.sum += h.sum.Load()
}
