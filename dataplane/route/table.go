package route

import (
	"bytes"
	"hash/maphash"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Request is what a table matches. Its slices are read during the call only.
type Request struct {
	Host     []byte // lower case, without port or trailing dot
	Path     []byte // canonical, see CanonicalPath
	RawQuery []byte // the bytes after '?', as received
	Method   []byte
	Headers  HeaderSource // nil: no headers
}

// HeaderSource looks up the fields of a request.
type HeaderSource interface {
	// Header returns the value of the field whose lower-case name is given;
	// repeated fields are joined with ", ". The value is read before the next
	// call.
	Header(name string) (value []byte, ok bool)
}

// Entry is a value and the requests it takes: those that come for one of its
// hostnames and meet one of its matches.
type Entry[T comparable] struct {
	// Hostnames in lower case: exact, "*.example.com", or "*" for every host.
	Hostnames []string
	// Matches, of which one suffices. None: the entry takes nothing.
	Matches []plan.Match
	Value   T
}

// Table finds the value that takes a request. It is immutable: any number of
// goroutines may use it. The zero Table takes nothing.
type Table[T comparable] struct {
	// slots is an open-addressed hash table of a power of two slots, at most
	// half of them full; nil in the zero Table.
	slots []slot[T]
	// any is the host "*"; nil when no entry has it.
	any *host[T]
	// suffixes has a bit for each length that the suffix of a wildcard has.
	suffixes lengthSet
	entries  []Entry[T]
}

// slot of a table; host is nil in an empty one.
type slot[T comparable] struct {
	hash uint64
	host *host[T]
}

// seed makes it impossible to choose names that collide. It is the same for all
// tables of the process so that hosts can move from one to the next.
var seed = maphash.MakeSeed()

// Match returns the value that takes r, and false when none does. It does not
// allocate.
func (t *Table[T]) Match(r *Request) (T, bool) {
	if c := t.match(r); c != nil {
		return c.value, true
	}
	var none T
	return none, false
}

// Len returns the number of entries.
func (t *Table[T]) Len() int { return len(t.entries) }

// Hosts returns the number of distinct hostnames.
func (t *Table[T]) Hosts() int {
	n := 0
	t.eachHost(func(*host[T]) { n++ })
	return n
}

func (t *Table[T]) eachHost(visit func(*host[T])) {
	for i := range t.slots {
		if h := t.slots[i].host; h != nil {
			visit(h)
		}
	}
	if t.any != nil {
		visit(t.any)
	}
}

func (t *Table[T]) match(r *Request) *candidate[T] {
	// What starts with a dot is the name of a wildcard's suffix, not of a host.
	if len(r.Host) != 0 && r.Host[0] != '.' {
		if h := t.find(r.Host); h != nil {
			if c := h.match(r); c != nil {
				return c
			}
		}
	}
	if !t.suffixes.empty() {
		if c := t.matchWildcards(r); c != nil {
			return c
		}
	}
	if t.any != nil {
		return t.any.match(r)
	}
	return nil
}

// matchWildcards tries the suffixes of the host that start at a dot, the
// longest first. The first label stays out: a wildcard stands for one at least.
func (t *Table[T]) matchWildcards(r *Request) *candidate[T] {
	for at := 1; at < len(r.Host); at++ {
		dot := bytes.IndexByte(r.Host[at:], '.')
		if dot < 0 {
			return nil
		}
		at += dot
		suffix := r.Host[at:]
		if !t.suffixes.has(len(suffix)) {
			continue
		}
		if h := t.find(suffix); h != nil {
			if c := h.match(r); c != nil {
				return c
			}
		}
	}
	return nil
}

// find returns the host that is filed under name, nil when there is none.
func (t *Table[T]) find(name []byte) *host[T] {
	if len(t.slots) == 0 {
		return nil
	}
	hash := maphash.Bytes(seed, name)
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.host == nil {
			return nil
		}
		if s.hash == hash && s.host.name == string(name) {
			return s.host
		}
	}
}

// maxHostname is the length of the longest DNS name, and so of the longest
// suffix of a wildcard.
const maxHostname = 253

// lengthSet is a set of lengths up to maxHostname.
type lengthSet [4]uint64

func (s *lengthSet) add(n int)      { s[n/64] |= 1 << (n % 64) }
func (s *lengthSet) has(n int) bool { return n <= maxHostname && s[n/64]>>(n%64)&1 != 0 }
func (s *lengthSet) empty() bool    { return s[0]|s[1]|s[2]|s[3] == 0 }
