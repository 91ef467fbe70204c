package route

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// host is the compiled form of everything that is filed under one hostname. It
// is immutable and may belong to several tables.
type host[T comparable] struct {
	// The first three are all that most requests read; they fill a cache line.
	name       string         // "shop.example.com", ".example.com", or "*"
	candidates []candidate[T] // of all nodes, grouped by node
	trie
	// values are those of the entries it was compiled from, in order: as long
	// as they stay the same, so does the host.
	values []T
	// rare is nil where no match needs it.
	rare *rare[T]
}

// rare is what few hosts have.
type rare[T comparable] struct {
	// regexes are tried, best first, when no exact path or prefix matches.
	regexes []regexCandidate[T]
	// patterns in use in the host, each once, for the next table to share.
	patterns []*pattern
}

// trie of the segments of paths.
type trie struct {
	nodes []node // nodes[0] is "/"
	// labels are the segments of the nodes; nil if their keys suffice.
	labels []string
	// index finds the children of nodes that have many; nil if there are none.
	index *childIndex
}

// node of the trie, of which two fit a cache line. Numbers of nodes and
// candidates are indices into the slices of the host.
type node struct {
	key uint64 // of its segment, see segmentKey
	// child is the first of its children, which are chained by next; 0 = none,
	// as the root is nobody's child. manyChildren: they are in the index, and
	// next of each is its parent.
	child, next uint32
	// up is the nearest node above that has prefix candidates, or noNode.
	up uint32
	// The node's candidates for exactly this path are [exact:prefix], those
	// for this prefix [prefix:end], each best first.
	exact, prefix, end uint32
}

const (
	noNode       = ^uint32(0)
	manyChildren = ^uint32(0)
	// maxChained is how many children a node chains: comparing that many costs
	// about as much as a lookup in the index.
	maxChained = 8
)

// candidate is a match that takes what reaches it, if its conditions hold.
type candidate[T comparable] struct {
	value      T
	conditions *conditions // nil: none
}

// regexCandidate is a candidate for the paths of a pattern.
type regexCandidate[T comparable] struct {
	path *pattern
	candidate[T]
}

// match returns the best candidate for r, nil when there is none.
func (h *host[T]) match(r *Request) *candidate[T] {
	if len(r.Path) != 0 && r.Path[0] == '/' {
		n, whole := h.walk(r.Path[1:])
		if whole {
			at := &h.nodes[n]
			if c := firstHolding(h.candidates[at.exact:at.prefix], r); c != nil {
				return c
			}
		}
		for n != noNode {
			at := &h.nodes[n]
			if c := firstHolding(h.candidates[at.prefix:at.end], r); c != nil {
				return c
			}
			n = at.up
		}
	}
	if h.rare != nil {
		for i := range h.rare.regexes {
			c := &h.rare.regexes[i]
			if c.holds(r) && c.path.match(r.Path) {
				return &c.candidate
			}
		}
	}
	return nil
}

func firstHolding[T comparable](candidates []candidate[T], r *Request) *candidate[T] {
	for i := range candidates {
		if c := &candidates[i]; c.holds(r) {
			return c
		}
	}
	return nil
}

func (c *candidate[T]) holds(r *Request) bool {
	return c.conditions == nil || c.conditions.hold(r)
}

// walk follows the segments of rest, which is a path without its first '/', as
// far down as there are nodes, and says whether they covered the whole path. A
// slash at the end opens an empty segment, except in "/" itself.
func (h *host[T]) walk(rest []byte) (n uint32, whole bool) {
	if len(rest) == 0 {
		return 0, true
	}
	for {
		if h.nodes[n].child == 0 {
			return n, false
		}
		segment, last := rest, true
		if i := bytes.IndexByte(rest, '/'); i >= 0 {
			segment, rest, last = rest[:i], rest[i+1:], false
		}
		c := h.child(n, segment)
		if c == 0 {
			return n, false
		}
		if n = c; last {
			return n, true
		}
	}
}

// child returns the child of parent for a segment, 0 when there is none.
func (t *trie) child(parent uint32, segment []byte) uint32 {
	key := segmentKey(segment)
	c := t.nodes[parent].child
	if c == manyChildren {
		return t.indexed(parent, key, segment)
	}
	for c != 0 && !t.is(c, key, segment) {
		c = t.nodes[c].next
	}
	return c
}

// is says whether n is the node of a segment whose key is given.
func (t *trie) is(n uint32, key uint64, segment []byte) bool {
	return t.nodes[n].key == key && (len(segment) <= maxInKey || t.labels[n] == string(segment))
}

// maxInKey is the length of the longest segment that its key holds whole.
const maxInKey = 7

// segmentKey returns a number for a segment: the length (up to 255) in the first byte,
// and in the others the segment itself if it is no longer than maxInKey, else a mix
// of its first and last bytes.
func segmentKey(s []byte) uint64 {
	n := len(s)
	var k uint64
	switch {
	case n >= 8:
		k = binary.LittleEndian.Uint64(s)*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(s[n-8:])*0xc2b2ae3d27d4eb4f
		k >>= 8
	case n >= 4: // the halves overlap in equal bits
		k = uint64(binary.LittleEndian.Uint32(s)) | uint64(binary.LittleEndian.Uint32(s[n-4:]))<<(8*(n-4))
	case n > 0:
		k = uint64(s[0]) | uint64(s[n/2])<<(8*(n/2)) | uint64(s[n-1])<<(8*(n-1))
	}
	return k | uint64(min(n, 0xff))<<56
}

// childIndex is an open-addressed hash table of a power of two slots, at most
// half of them full, of the children of all nodes that have many.
type childIndex struct {
	slots []childSlot
	used  int
}

// childSlot holds the upper half of the hash, so that other nodes need not be
// looked at; child is 0 in an empty slot.
type childSlot struct {
	tag, child uint32
}

func childHash(parent uint32, segment []byte) uint64 {
	// An odd constant spreads the parents over all bits.
	return maphash.Bytes(seed, segment) ^ uint64(parent)*0x9e3779b97f4a7c15
}

// indexed returns the child of a parent that has many.
func (t *trie) indexed(parent uint32, key uint64, segment []byte) uint32 {
	hash := childHash(parent, segment)
	slots, tag := t.index.slots, uint32(hash>>32)
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := slots[i]
		if s.child == 0 {
			return 0
		}
		if s.tag == tag && t.nodes[s.child].next == parent && t.is(s.child, key, segment) {
			return s.child
		}
	}
}
