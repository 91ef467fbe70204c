package upstream

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ConsistentHash is a ring with bounded load (Mirrokni et al., "Consistent
// Hashing with Bounded Loads"). A ring rather than Maglev's table: when an
// endpoint comes or goes, only its own keys move, to all others in equal parts;
// an endpoint that is out or has its fill is simply passed over, so that an
// ejection rebuilds nothing; and the next on the ring is where a key goes then,
// each time the same. Rendezvous hashing would do so, too, but looks at every
// endpoint for every pick.
//
// The hash has no secret, so that all replicas send a key to the same place. Who
// chooses keys can aim at one endpoint; the bound is what stands against that.

// ringPoints is the number of points that each endpoint has on the ring: its
// share deviates by some 9%.
const ringPoints = 128

const (
	// enoughForAll is what each endpoint may have in flight whatever the others
	// have: too little to be overloaded with, enough to keep a client's parallel
	// requests together in a pool that has not much to do.
	enoughForAll = 4
	// An endpoint may have boundNum/boundDen of what is in flight on average.
	boundNum, boundDen = 5, 4
)

type ring struct {
	points []ringPoint // in order
	// start gives for the first bits of a hash the first point that is not
	// before them: points are spread evenly, so this is next to the one wanted.
	start []uint32
	shift int
}

type ringPoint struct {
	at     uint64
	member uint32 // its place in the roster
}

// Hash is a key for Ask, the same in all replicas.
func Hash(b []byte) uint64 { return xxhash.Sum64(b) }

func hashAddr(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	return xxhash.Sum64(binary.BigEndian.AppendUint16(b[:], a.Port()))
}

// mix spreads a number over all bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// ringFor returns the ring of the endpoints: that of the roster before if they
// are the same.
func ringFor(all []*Endpoint, before *roster) *ring {
	same := func(a, b *Endpoint) bool { return a == b }
	if before.ring != nil && slices.EqualFunc(all, before.all, same) {
		return before.ring
	}
	return newRing(all)
}

func newRing(all []*Endpoint) *ring {
	r := &ring{points: make([]ringPoint, 0, len(all)*ringPoints)}
	for i, e := range all {
		for n := range uint64(ringPoints) {
			r.points = append(r.points, ringPoint{mix(e.salt + n*0x9e3779b97f4a7c15), uint32(i)})
		}
	}
	slices.SortFunc(r.points, func(a, b ringPoint) int { return cmp.Compare(a.at, b.at) })
	index := max(bits.Len(uint(len(r.points))), 1)
	r.shift = 64 - index
	r.start = make([]uint32, 1<<index)
	next := 0
	for b := range r.start {
		for next < len(r.points) && r.points[next].at < uint64(b)<<r.shift {
			next++
		}
		r.start[b] = uint32(next)
	}
	return r
}

// find returns the place of the first point at or behind a hash.
func (r *ring) find(h uint64) int {
	i := int(r.start[h>>r.shift])
	for i < len(r.points) && r.points[i].at < h {
		i++
	}
	if i == len(r.points) {
		return 0
	}
	return i
}

// maxSteps bounds the points that a pick looks at. It is met only when nearly
// all endpoints are out.
const maxSteps = 4096

// byKey walks the ring from the key's place to the first endpoint that takes
// requests and is not full. One in its slow start takes part of its keys: as
// many more with time as its weight grows, and the same ones in every replica.
func (p *Pool) byKey(m *members, t int64, ask *Ask) *Endpoint {
	r := m.ring
	bound := max((boundNum*(p.inFlight.Load()+1)-1)/(boundDen*int64(len(m.open)))+1, enoughForAll)
	if p.Breaker != nil && p.Breaker.EndpointLimit() > 0 {
		bound = min(bound, int64(p.Breaker.EndpointLimit()))
	}
	ramping := t < m.rampUntil
	h := mix(ask.Key)
	again := ask.another()
	i := r.find(h)
	for range min(len(r.points), maxSteps) {
		member := r.points[i].member
		if i++; i == len(r.points) {
			i = 0
		}
		if m.fit[member]&fitNew == 0 {
			continue
		}
		e := m.all[member]
		if again && ask.Tried.Has(e) {
			continue
		}
		if ramping && mix(h^e.salt)&(weightOne-1) >= p.weight(e, t) {
			continue
		}
		if e.load.inFlight.Load() < bound {
			return e
		}
	}
	if again {
		return drawUntried(m.open, ask.Tried, nil)
	}
	return m.open[h%uint64(len(m.open))]
}
