package route

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// compiler turns the entries of a hostname into a host. It keeps its buffers
// from one host to the next.
type compiler[T comparable] struct {
	entries  []Entry[T]
	patterns patternCache[T]
	// byMethod shares the conditions that consist of a method alone.
	byMethod map[string]*conditions

	// Of the host at work:
	trie    trieBuilder
	placed  []placed[T] // under a node
	regexes []placed[T]
	used    []*pattern
	path    []byte
}

// placed is a candidate on its way to where it belongs.
type placed[T comparable] struct {
	// place and rank sort the candidates of a host, best first where they
	// compete.
	place uint64 // the node, and 1 for a prefix
	rank  uint64 // of the conditions, see rankOf
	order int    // in the host
	regexCandidate[T]
}

func newCompiler[T comparable](entries []Entry[T], prev *Table[T]) *compiler[T] {
	return &compiler[T]{
		entries:  entries,
		patterns: patternCache[T]{prev: prev},
		byMethod: map[string]*conditions{},
	}
}

// compile makes the host of a hostname out of the entries that have it.
func (c *compiler[T]) compile(hostname string, members []int) (*host[T], error) {
	if err := checkHostname(hostname); err != nil {
		return nil, fmt.Errorf("route: entry %d: hostname %q: %w", members[0], hostname, err)
	}
	c.reset(members)
	h := &host[T]{name: nameOf(hostname), values: make([]T, 0, len(members))}
	for _, e := range members {
		entry := &c.entries[e]
		h.values = append(h.values, entry.Value)
		for m := range entry.Matches {
			if err := c.add(entry.Value, &entry.Matches[m]); err != nil {
				return nil, fmt.Errorf("route: entry %d (hostname %s), match %d: %w", e, hostname, m, err)
			}
		}
	}
	h.candidates = c.place()
	h.trie = c.trie.build()
	if len(c.used) > 0 {
		h.rare = &rare[T]{patterns: distinct(c.used)}
		if len(c.regexes) > 0 {
			slices.SortFunc(c.regexes, comparePlaced)
			h.rare.regexes = make([]regexCandidate[T], len(c.regexes))
			for i := range c.regexes {
				h.rare.regexes[i] = c.regexes[i].regexCandidate
			}
		}
	}
	return h, nil
}

// reset makes the buffers empty, with room for what the members may need.
func (c *compiler[T]) reset(members []int) {
	matches := 0
	for _, e := range members {
		matches += len(c.entries[e].Matches)
	}
	c.trie.reset(matches)
	c.placed = slices.Grow(c.placed[:0], matches)
	c.regexes, c.used = c.regexes[:0], c.used[:0]
}

// add compiles a match and notes where it belongs.
func (c *compiler[T]) add(value T, m *plan.Match) error {
	p := placed[T]{rank: rankOf(m), order: len(c.placed) + len(c.regexes)}
	p.value = value
	var err error
	if p.conditions, err = c.conditions(m); err != nil {
		return err
	}
	switch m.Path.Type {
	case plan.PathExact, plan.PathPrefix:
		if err := c.checkPath(m.Path); err != nil {
			return err
		}
		p.place = uint64(c.trie.node(m.Path.Value)) << 1
		if m.Path.Type == plan.PathPrefix {
			p.place |= 1
		}
		c.placed = append(c.placed, p)
	case plan.PathRegex:
		if p.path, err = c.pattern(m.Path.Value); err != nil {
			return fmt.Errorf("path: %w", err)
		}
		c.regexes = append(c.regexes, p)
	default:
		return fmt.Errorf("path: unknown type %d", m.Path.Type)
	}
	return nil
}

// checkPath says what is wrong with the path of an exact or prefix match: if it
// were not canonical, it could never match.
func (c *compiler[T]) checkPath(p plan.PathMatch) error {
	c.path = append(c.path[:0], p.Value...)
	n, err := CanonicalPath(c.path)
	switch {
	case err != nil:
		return fmt.Errorf("path %q: %w", p.Value, err)
	case string(c.path[:n]) != p.Value:
		return fmt.Errorf("path %q is not canonical: it should be %q", p.Value, c.path[:n])
	case p.Type == plan.PathPrefix && n > 1 && c.path[n-1] == '/':
		return fmt.Errorf("path prefix %q ends with '/'", p.Value)
	}
	return nil
}

// place gives each node its stretch of the candidates, which it returns.
func (c *compiler[T]) place() []candidate[T] {
	slices.SortFunc(c.placed, comparePlaced)
	candidates := make([]candidate[T], 0, len(c.placed))
	take := func(place uint64) uint32 {
		for len(candidates) < len(c.placed) && c.placed[len(candidates)].place == place {
			candidates = append(candidates, c.placed[len(candidates)].candidate)
		}
		return uint32(len(candidates))
	}
	for n := range c.trie.nodes {
		at := &c.trie.nodes[n]
		at.exact = uint32(len(candidates))
		at.prefix = take(uint64(n) << 1)
		at.end = take(uint64(n)<<1 | 1)
	}
	return candidates
}

// conditions compiles what m asks besides the path; nil for nothing.
func (c *compiler[T]) conditions(m *plan.Match) (*conditions, error) {
	if len(m.Headers) == 0 && len(m.Query) == 0 {
		if m.Method == "" {
			return nil, nil
		}
		shared := c.byMethod[m.Method]
		if shared == nil {
			shared = &conditions{method: m.Method}
			c.byMethod[m.Method] = shared
		}
		return shared, nil
	}
	headers, err := c.valueConditions(m.Headers)
	if err != nil {
		return nil, fmt.Errorf("header %w", err)
	}
	query, err := c.valueConditions(m.Query)
	if err != nil {
		return nil, fmt.Errorf("query parameter %w", err)
	}
	return &conditions{method: m.Method, headers: headers, query: query}, nil
}

func (c *compiler[T]) valueConditions(matches []plan.ValueMatch) ([]valueCondition, error) {
	if len(matches) == 0 {
		return nil, nil
	}
	compiled := make([]valueCondition, len(matches))
	for i, m := range matches {
		compiled[i] = valueCondition{name: m.Name, value: m.Value}
		if !m.Regex {
			continue
		}
		p, err := c.pattern(m.Value)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", m.Name, err)
		}
		compiled[i].regex = p
	}
	return compiled, nil
}

func (c *compiler[T]) pattern(expr string) (*pattern, error) {
	p, err := c.patterns.get(expr)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	c.used = append(c.used, p)
	return p, nil
}

// rankOf packs the steps of the precedence after the path into a number; the
// least is the best.
func rankOf(m *plan.Match) uint64 {
	const most = 1<<31 - 1
	rank := uint64(most-min(len(m.Headers), most))<<31 | uint64(most-min(len(m.Query), most))
	if m.Method == "" {
		rank |= 1 << 63
	}
	return rank
}

func comparePlaced[T comparable](a, b placed[T]) int {
	if a.place != b.place {
		return cmp.Compare(a.place, b.place)
	}
	if a.rank != b.rank {
		return cmp.Compare(a.rank, b.rank)
	}
	return cmp.Compare(a.order, b.order)
}

// distinct returns each pattern once.
func distinct(patterns []*pattern) []*pattern {
	seen := make(map[*pattern]bool, len(patterns))
	for _, p := range patterns {
		seen[p] = true
	}
	return slices.Collect(maps.Keys(seen))
}
