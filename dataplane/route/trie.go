package route

import (
	"slices"
	"strings"
)

// trieBuilder grows a trie, whose nodes stand in the order they are added:
// parents before their children, and the paths of an entry side by side.
type trieBuilder struct {
	trie
	// Of each node:
	parents  []uint32
	children []uint32 // how many

	long    bool // a label does not fit into its key
	segment []byte
}

// reset leaves the root, and room for so many nodes.
func (t *trieBuilder) reset(nodes int) {
	t.nodes = append(slices.Grow(t.nodes[:0], nodes+1), node{up: noNode})
	t.labels = append(slices.Grow(t.labels[:0], nodes+1), "")
	t.parents = append(t.parents[:0], 0)
	t.children = append(t.children[:0], 0)
	t.index, t.long = nil, false
}

// node returns the node of a canonical path, which it makes if need be.
func (t *trieBuilder) node(path string) (n uint32) {
	if len(path) == 1 {
		return 0
	}
	for label := range strings.SplitSeq(path[1:], "/") {
		n = t.childOf(n, label)
	}
	return n
}

// childOf returns the child of parent with the given label, which it makes if
// need be.
func (t *trieBuilder) childOf(parent uint32, label string) uint32 {
	t.segment = append(t.segment[:0], label...)
	if n := t.child(parent, t.segment); n != 0 {
		return n
	}
	n := uint32(len(t.nodes))
	t.nodes = append(t.nodes, node{key: segmentKey(t.segment)})
	t.labels = append(t.labels, label)
	t.long = t.long || len(label) > maxInKey
	t.parents = append(t.parents, parent)
	t.children = append(t.children, 0)
	t.children[parent]++
	switch p := &t.nodes[parent]; {
	case p.child == manyChildren:
		t.addToIndex(n)
	case t.children[parent] > maxChained:
		for chained := p.child; chained != 0; {
			next := t.nodes[chained].next
			t.addToIndex(chained)
			chained = next
		}
		p.child = manyChildren
		t.addToIndex(n)
	default:
		t.nodes[n].next = p.child
		p.child = n
	}
	return n
}

// addToIndex puts a child into the index, which it doubles when it is half
// full.
func (t *trieBuilder) addToIndex(child uint32) {
	if t.index == nil {
		t.index = &childIndex{slots: make([]childSlot, 4*maxChained)}
	}
	if old := t.index.slots; t.index.used*2 == len(old) {
		t.index.slots = make([]childSlot, 2*len(old))
		for _, s := range old {
			if s.child != 0 {
				t.fileInIndex(s.child)
			}
		}
	}
	t.index.used++
	t.fileInIndex(child)
	t.nodes[child].next = t.parents[child]
}

// fileInIndex puts a child into the first free slot from where its hash points.
func (t *trieBuilder) fileInIndex(child uint32) {
	t.segment = append(t.segment[:0], t.labels[child]...)
	hash := childHash(t.parents[child], t.segment)
	mask := uint64(len(t.index.slots) - 1)
	i := hash & mask
	for t.index.slots[i].child != 0 {
		i = (i + 1) & mask
	}
	t.index.slots[i] = childSlot{tag: uint32(hash >> 32), child: child}
}

// build returns the trie, once its nodes know their candidates.
func (t *trieBuilder) build() trie {
	for n := 1; n < len(t.nodes); n++ {
		up := t.parents[n]
		if p := &t.nodes[up]; p.prefix == p.end {
			up = p.up
		}
		t.nodes[n].up = up
	}
	built := trie{nodes: slices.Clone(t.nodes), index: t.index}
	if t.long {
		built.labels = slices.Clone(t.labels)
	}
	return built
}
