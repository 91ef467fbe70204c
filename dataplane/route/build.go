package route

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// Build compiles entries, which stand in order of precedence, into a table. The
// table keeps the slice and what it refers to: nobody may change them anymore.
//
// prev, which may be nil, is the table before. Of it the new one takes over the
// hosts whose entries are unchanged, that is, whose values are the same in the
// same order; so an equal Value must imply equal Hostnames and Matches. The
// cost of a change is one pass over the entries and the compilation of the
// hosts it touches.
//
// An error names the entry and the match that cannot be compiled, and why.
func Build[T comparable](entries []Entry[T], prev *Table[T]) (*Table[T], error) {
	if prev == nil {
		prev = &Table[T]{}
	}
	g := groupByHost(entries)
	t := &Table[T]{entries: entries}
	t.makeSlots(len(g.groups))
	c := newCompiler(entries, prev)
	for i := range g.groups {
		hostname := g.groups[i].hostname
		h := prev.lookup(hostname)
		if h == nil || !unchanged(h, entries, g, i) {
			var err error
			if h, err = c.compile(hostname, g.members(i)); err != nil {
				return nil, err
			}
		}
		t.file(h)
	}
	return t, nil
}

// unchanged says that h was compiled from what a group of entries says.
func unchanged[T comparable](h *host[T], entries []Entry[T], g *groups, group int) bool {
	n := 0
	for l := g.groups[group].first; l >= 0; l = g.links[l].next {
		if n == len(h.values) || h.values[n] != entries[g.links[l].entry].Value {
			return false
		}
		n++
	}
	return n == len(h.values)
}

// lookup returns the host of a hostname.
func (t *Table[T]) lookup(hostname string) *host[T] {
	if hostname == anyHost {
		return t.any
	}
	return t.find([]byte(nameOf(hostname)))
}

// nameOf returns the name under which the host of a hostname is filed.
func nameOf(hostname string) string {
	if strings.HasPrefix(hostname, "*.") {
		return hostname[1:]
	}
	return hostname
}

// makeSlots makes room for so many hosts.
func (t *Table[T]) makeSlots(hosts int) {
	n := 4
	for n/2 < hosts {
		n *= 2
	}
	t.slots = make([]slot[T], n)
}

// file puts h into the table.
func (t *Table[T]) file(h *host[T]) {
	if h.name == anyHost {
		t.any = h
		return
	}
	if h.name[0] == '.' {
		t.suffixes.add(len(h.name))
	}
	hash := maphash.String(seed, h.name)
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].host != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = slot[T]{hash: hash, host: h}
}

// groups of entries by hostname, in the order of their first entries.
type groups struct {
	groups []group
	links  []link
}

// group is a chain of links, in the order of the entries.
type group struct {
	hostname    string
	first, last int
}

// link of a chain; next is -1 in the last one.
type link struct {
	entry, next int
}

func groupByHost[T comparable](entries []Entry[T]) *groups {
	g := &groups{links: make([]link, 0, len(entries))}
	byHostname := make(map[string]int, len(entries)/2)
	for e := range entries {
		for _, hostname := range entries[e].Hostnames {
			at, ok := byHostname[hostname]
			if !ok {
				at = len(g.groups)
				byHostname[hostname] = at
				g.groups = append(g.groups, group{hostname: hostname, first: -1})
			}
			g.add(at, e)
		}
	}
	return g
}

// add appends an entry to a group, unless it was named there just before: a
// hostname twice in one entry is still one.
func (g *groups) add(at, entry int) {
	to := &g.groups[at]
	switch {
	case to.first < 0:
		to.first = len(g.links)
	case g.links[to.last].entry == entry:
		return
	default:
		g.links[to.last].next = len(g.links)
	}
	to.last = len(g.links)
	g.links = append(g.links, link{entry: entry, next: -1})
}

// members returns the entries of a group.
func (g *groups) members(at int) (entries []int) {
	for l := g.groups[at].first; l >= 0; l = g.links[l].next {
		entries = append(entries, g.links[l].entry)
	}
	return entries
}

// anyHost is the hostname that stands for every host.
const anyHost = "*"

// checkHostname says what is wrong with a hostname.
func checkHostname(hostname string) error {
	switch labels := strings.TrimPrefix(hostname, "*."); {
	case hostname == anyHost:
		return nil
	case labels == "":
		return errors.New("there is no name; every host is \"*\"")
	case len(hostname) > maxHostname:
		return fmt.Errorf("it is longer than %d bytes", maxHostname)
	case strings.Contains(labels, "*"):
		return errors.New("a wildcard must be the whole first label")
	case strings.HasPrefix(labels, ".") || strings.HasSuffix(labels, ".") || strings.Contains(labels, ".."):
		return errors.New("it has an empty label")
	case labels != strings.ToLower(labels):
		return errors.New("it is not in lower case")
	}
	return nil
}
