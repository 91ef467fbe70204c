package shared

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

const (
	// ways is how many refusals a set holds, and refusalSets how many sets there
	// are: 4096 refusals in 130 KB.
	ways        = 8
	refusalSets = 512
	// longestRefusal is how long one is believed. There may be a token earlier
	// than was said: somebody may have deleted the bucket.
	longestRefusal = time.Second
)

// refusals remembers which buckets were empty, and until when. Tokens come at
// their rate and not before, and others can only take some, so whoever asks
// earlier would be refused again. What is forgotten, because there is room for so
// many, is asked for again. It may be used by any number of goroutines, and is
// told the time.
type refusals struct {
	start time.Time
	seed  maphash.Seed
	sets  [refusalSets]refusalSet
}

type refusalSet struct {
	mu  sync.Mutex
	all [ways]refusal
}

// refusal has times in nanoseconds since refusals.start.
type refusal struct {
	id                 uint64 // a hash of the bucket
	until, retry, full int64  // believed until; one is let through; the bucket is full
}

func newRefusals(now time.Time) *refusals { return &refusals{start: now, seed: maphash.MakeSeed()} }

// id identifies the bucket of a limit and a key.
func (r *refusals) id(name string, key []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(name) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(key)
	return h.Sum64()
}

// find returns the refusal that a bucket is sure to give now.
func (r *refusals) find(id uint64, now time.Time) (v limit.Verdict, ok bool) {
	at := int64(now.Sub(r.start))
	s := &r.sets[id%refusalSets]
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if f := &s.all[i]; f.id == id && at < f.until {
			return limit.Verdict{Reset: time.Duration(f.full - at), RetryAfter: time.Duration(f.retry - at)}, true
		}
	}
	return v, false
}

// add remembers what a bucket said when it was asked at a time or later. It takes
// the place of the one that ends first.
func (r *refusals) add(id uint64, v limit.Verdict, asked time.Time) {
	at := int64(asked.Sub(r.start))
	s := &r.sets[id%refusalSets]
	s.mu.Lock()
	defer s.mu.Unlock()
	first := &s.all[0]
	for i := range s.all {
		f := &s.all[i]
		if f.id == id {
			first = f
			break
		}
		if f.until < first.until {
			first = f
		}
	}
	*first = refusal{id, at + int64(min(v.RetryAfter, longestRefusal)), at + int64(v.RetryAfter), at + int64(v.Reset)}
}
