package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// dice turns bytes into choices, so that a fuzzer can steer them. When the
// bytes are used up it always chooses the first.
type dice struct{ bytes []byte }

func (d *dice) roll(n int) int {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return int(b) % n
}

func pick[E any](d *dice, of []E) E { return of[d.roll(len(of))] }

// What tables and requests are made of: few of each, so that they meet.
var (
	someHostnames = []string{"a.test", "*.a.test", "*", "b.a.test", "*.b.a.test", "*.test", "c.test"}
	someHosts     = []string{"a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test", "c.test", "test", ".a.test", ""}
	someMethods   = []string{"", "GET", "POST"}
	someSegments  = []string{"a", "b", "%2F", "longsegment1", "longsegment2", "ab", "c", "d", "e", "f", "g", "h", "i"}
	someRegexes   = []string{"/.*", "/a|/b", "/(a|b)/.*", "(?i)/A/?", "/a/b", `/\Qa`, ".*b", "/a+b?", "[^a]+"}
	someFields    = []string{"x", "y"}
	someParams    = []string{"v", "a b", "é"}
	someValues    = []string{"1", "2", "a b", "", "é", "%"}
	valueRegexes  = []string{"[12]", ".*", "a.b", "1|22", "é?"}
	rawPairs      = []string{"v=1", "v=2", "v=%31", "a+b=a%20b", "a%20b=a+b", "v=a b", "v", "é=%C3%A9", "%c3%a9=é", "v=%", "v=22", ";v=1", "", "v=1;2"}
	rawSegments   = []string{"a", "b", "%2f", "longsegment1", "longsegment2", "ab", "", "..", ".", "%61", "A", "c", "longsegment", "i"}
)

func (d *dice) canonicalPath(trailingSlash bool) string {
	var segments []string
	for range d.roll(4) {
		segments = append(segments, pick(d, someSegments))
	}
	if trailingSlash && len(segments) > 0 && d.roll(4) == 3 {
		segments = append(segments, "")
	}
	return "/" + strings.Join(segments, "/")
}

func (d *dice) match() plan.Match {
	var m plan.Match
	switch d.roll(5) {
	case 0, 1:
		m = prefix(d.canonicalPath(false))
	case 2, 3:
		m = exact(d.canonicalPath(true))
	default:
		m = regex(pick(d, someRegexes))
	}
	m.Method = pick(d, someMethods)
	m.Headers = d.valueMatches(someFields)
	m.Query = d.valueMatches(someParams)
	return m
}

func (d *dice) valueMatches(names []string) (matches []plan.ValueMatch) {
	for range max(0, d.roll(5)-2) {
		m := plan.ValueMatch{Name: pick(d, names), Value: pick(d, someValues)}
		if m.Regex = d.roll(3) == 1; m.Regex {
			m.Value = pick(d, valueRegexes)
		}
		matches = append(matches, m)
	}
	return matches
}

// rule is a value with an identity; the name is for messages.
type rule struct{ name string }

func (d *dice) entry(name string) Entry[*rule] {
	e := Entry[*rule]{Value: &rule{name}}
	for range 1 + d.roll(3) {
		e.Hostnames = append(e.Hostnames, pick(d, someHostnames))
	}
	for range d.roll(4) {
		e.Matches = append(e.Matches, d.match())
	}
	return e
}

func (d *dice) entries() (entries []Entry[*rule]) {
	for i := range d.roll(32) {
		entries = append(entries, d.entry(fmt.Sprint("r", i)))
	}
	return entries
}

// edited returns entries with some changes: what stays keeps its value.
func (d *dice) edited(entries []Entry[*rule]) []Entry[*rule] {
	entries = slices.Clone(entries)
	for i := range d.roll(4) {
		at := d.roll(len(entries) + 1)
		switch {
		case d.roll(3) == 0 || at == len(entries):
			entries = slices.Insert(entries, at, d.entry(fmt.Sprint("new", i)))
		case d.roll(2) == 0:
			entries = slices.Delete(entries, at, at+1)
		default:
			other := d.roll(len(entries))
			entries[at], entries[other] = entries[other], entries[at]
		}
	}
	return entries
}

// request may have a path that is refused; then ok is false.
func (d *dice) request() (r *Request, ok bool) {
	var segments []string
	for range d.roll(5) {
		segments = append(segments, pick(d, rawSegments))
	}
	path := []byte("/" + strings.Join(segments, "/"))
	n, err := CanonicalPath(path)
	if err != nil {
		return nil, false
	}
	var pairs []string
	for range d.roll(4) {
		pairs = append(pairs, pick(d, rawPairs))
	}
	headers := fields{}
	for range d.roll(3) {
		headers[pick(d, someFields)] = pick(d, someValues)
	}
	return &Request{
		Host: []byte(pick(d, someHosts)), Path: path[:n], Method: []byte(pick(d, someMethods)),
		RawQuery: []byte(strings.Join(pairs, "&")), Headers: headers,
	}, true
}

// checkRandom builds a random table, and another from an edit of its entries,
// and holds what they answer against the explanation. It returns how many
// requests were taken.
func checkRandom(t *testing.T, d *dice, requests int) (taken int) {
	t.Helper()
	entries := d.entries()
	table, err := Build(entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := Build(d.edited(entries), table)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := Build(edited.entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range requests {
		r, ok := d.request()
		if !ok {
			continue
		}
		if wantExplained(t, table, r) {
			taken++
		}
		wantExplained(t, edited, r)
		wantExplained(t, fresh, r)
	}
	return taken
}

func wantExplained(t *testing.T, table *Table[*rule], r *Request) (taken bool) {
	t.Helper()
	got, taken := table.Match(r)
	x := table.Explain(r)
	if taken != (x.Winner != nil) || taken && x.Winner.Value != got {
		t.Fatalf("%s %s%s?%s %v:\nMatch = %+v, %v\nExplain = %+v\namong %+v",
			r.Method, r.Host, r.Path, r.RawQuery, r.Headers, got, taken, x.Winner, x.Candidates)
	}
	return taken
}

func FuzzMatchAgreesWithTheNaiveWalk(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomBytes(rand.New(rand.NewPCG(seed, 0)), 400))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		checkRandom(t, &dice{choices}, 10)
	})
}

func TestMatchAgreesWithTheNaiveWalkOnRandomTables(t *testing.T) {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	tables, requests, taken := 100, 20, 0
	for range tables {
		taken += checkRandom(t, &dice{randomBytes(rnd, 2000)}, requests)
	}
	// The generators are worth something only if both outcomes occur often.
	if share := float64(taken) / float64(tables*requests); share < 0.1 || share > 0.9 {
		t.Errorf("%.2f of the requests were taken; the generators are lopsided", share)
	}
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}
