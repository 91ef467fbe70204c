package route

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Explanation says who takes a request, and why.
type Explanation[T comparable] struct {
	// Candidates are all matches under the hostnames that fit the request, in
	// order of precedence: the first that matched is the winner.
	Candidates []Candidate[T] `json:"candidates,omitempty"`
	// Winner is the candidate that takes the request; nil when none does.
	Winner *Candidate[T] `json:"winner,omitempty"`
	// DecidedBy is the step of the precedence that put the winner before the
	// best match of another value: "host", "path type", "path length",
	// "method", "headers", "query" or "order"; "only match" when no other value
	// matched, and "" without a winner.
	DecidedBy string `json:"decidedBy,omitempty"`
	// OtherHosts is the number of entries that none of the candidates is of,
	// as they have no hostname that fits, or no match.
	OtherHosts int `json:"otherHosts"`
}

// Candidate is a match under one of its entry's hostnames.
type Candidate[T comparable] struct {
	Value    T      `json:"value"`
	Hostname string `json:"hostname"`
	// Match describes all conditions besides the hostname.
	Match   string `json:"match"`
	Matched bool   `json:"matched"`
	// Failed is the first condition that is not met, and how; "" when Matched.
	Failed string `json:"failed,omitempty"`

	match plan.Match
	order int // among all matches of all entries
}

// Explain says what Match answers for r, and why. It walks all entries, judging
// and ordering them by the words of the precedence rather than by the compiled
// table, so it is slow, and a check on Match. It may be used concurrently.
func (t *Table[T]) Explain(r *Request) Explanation[T] {
	var x Explanation[T]
	order := 0
	for _, e := range t.entries {
		fits := false
		for i, hostname := range e.Hostnames {
			if !hostnameFits(hostname, string(r.Host)) || slices.Contains(e.Hostnames[:i], hostname) {
				continue
			}
			for j, m := range e.Matches {
				fits = true
				failed := failedCondition(&m, r)
				x.Candidates = append(x.Candidates, Candidate[T]{
					Value: e.Value, Hostname: hostname, Match: describeMatch(&m),
					Matched: failed == "", Failed: failed,
					match: m, order: order + j,
				})
			}
		}
		if !fits {
			x.OtherHosts++
		}
		order += len(e.Matches)
	}
	slices.SortFunc(x.Candidates, func(a, b Candidate[T]) int {
		_, c := decide(&a, &b)
		return c
	})
	x.decide()
	return x
}

// decide names the winner and what set it apart.
func (x *Explanation[T]) decide() {
	for i := range x.Candidates {
		c := &x.Candidates[i]
		switch {
		case !c.Matched:
		case x.Winner == nil:
			x.Winner, x.DecidedBy = c, "only match"
		case c.Value != x.Winner.Value:
			x.DecidedBy, _ = decide(x.Winner, c)
			return
		}
	}
}

// precedence of matches, step by step. A step is less than 0 when a goes first.
var precedence = []struct {
	name string
	step func(hostA, hostB string, a, b *plan.Match) int
}{
	{"host", func(hostA, hostB string, _, _ *plan.Match) int {
		wildA, wildB := strings.HasPrefix(hostA, "*"), strings.HasPrefix(hostB, "*")
		return cmp.Or(compareBool(!wildA, !wildB), -cmp.Compare(len(hostA), len(hostB)))
	}},
	{"path type", func(_, _ string, a, b *plan.Match) int {
		return cmp.Compare(a.Path.Type, b.Path.Type)
	}},
	{"path length", func(_, _ string, a, b *plan.Match) int {
		if a.Path.Type != plan.PathPrefix || b.Path.Type != plan.PathPrefix {
			return 0
		}
		return -cmp.Compare(len(a.Path.Value), len(b.Path.Value))
	}},
	{"method", func(_, _ string, a, b *plan.Match) int {
		return compareBool(a.Method != "", b.Method != "")
	}},
	{"headers", func(_, _ string, a, b *plan.Match) int {
		return -cmp.Compare(len(a.Headers), len(b.Headers))
	}},
	{"query", func(_, _ string, a, b *plan.Match) int {
		return -cmp.Compare(len(a.Query), len(b.Query))
	}},
}

// compareBool puts true first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// decide says which of two candidates goes first, and by which step.
func decide[T comparable](a, b *Candidate[T]) (step string, c int) {
	for _, p := range precedence {
		if c := p.step(a.Hostname, b.Hostname, &a.match, &b.match); c != 0 {
			return p.name, c
		}
	}
	return "order", cmp.Compare(a.order, b.order)
}

func hostnameFits(pattern, host string) bool {
	if pattern == "*" {
		return true
	}
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild {
		return pattern == host
	}
	return strings.HasSuffix(host, suffix) && host != suffix
}

// failedCondition returns the first condition of m that r does not meet, and
// "" when it meets all.
func failedCondition(m *plan.Match, r *Request) string {
	path := string(r.Path)
	if !pathFits(m.Path, path) {
		return fmt.Sprintf("path: %s does not match %s", describePath(m.Path), path)
	}
	if m.Method != "" && m.Method != string(r.Method) {
		return fmt.Sprintf("method: %s is not %s", r.Method, m.Method)
	}
	for _, want := range m.Headers {
		var value []byte
		ok := false
		if r.Headers != nil {
			value, ok = r.Headers.Header(want.Name)
		}
		if why := failedValue(want, string(value), ok); why != "" {
			return fmt.Sprintf("header %s: %s", want.Name, why)
		}
	}
	for _, want := range m.Query {
		value, ok := explainQuery(string(r.RawQuery), want.Name)
		if why := failedValue(want, value, ok); why != "" {
			return fmt.Sprintf("query parameter %s: %s", want.Name, why)
		}
	}
	return ""
}

func pathFits(p plan.PathMatch, path string) bool {
	switch p.Type {
	case plan.PathExact:
		return path == p.Value
	case plan.PathPrefix:
		return strings.HasPrefix(path, "/") &&
			strings.HasPrefix(path+"/", strings.TrimSuffix(p.Value, "/")+"/")
	case plan.PathRegex:
		return wholeMatch(p.Value, path)
	}
	return false
}

func failedValue(want plan.ValueMatch, value string, ok bool) string {
	switch {
	case !ok:
		return "is absent"
	case want.Regex && !wholeMatch(want.Value, value):
		return fmt.Sprintf("%q does not match %s", value, want.Value)
	case !want.Regex && want.Value != value:
		return fmt.Sprintf("%q is not %q", value, want.Value)
	}
	return ""
}

// wholeMatch says whether the leftmost-longest match of expr is all of value.
func wholeMatch(expr, value string) bool {
	re, err := regexp.Compile(expr)
	if err != nil {
		return false
	}
	re.Longest()
	at := re.FindStringIndex(value)
	return slices.Equal(at, []int{0, len(value)})
}

// explainQuery returns the decoded value of the first parameter called name.
func explainQuery(query, name string) (value string, ok bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if pair != "" && explainDecode(key) == name {
			return explainDecode(value), true
		}
	}
	return "", false
}

// explainDecode decodes a part of a query; a '%' that begins no escape stands
// for itself.
func explainDecode(s string) string {
	parts := strings.Split(strings.ReplaceAll(s, "+", " "), "%")
	for i, part := range parts[1:] {
		parts[i+1] = "%" + part
		if len(part) < 2 {
			continue
		}
		if c, err := strconv.ParseUint(part[:2], 16, 8); err == nil {
			parts[i+1] = string([]byte{byte(c)}) + part[2:]
		}
	}
	return strings.Join(parts, "")
}

func describePath(p plan.PathMatch) string {
	switch p.Type {
	case plan.PathExact:
		return "Exact " + p.Value
	case plan.PathPrefix:
		return "PathPrefix " + p.Value
	default:
		return "RegularExpression " + p.Value
	}
}

// describeMatch returns a match in words: "PathPrefix /api, method GET, header
// x-canary = "1", query parameter v ~ [0-9]+".
func describeMatch(m *plan.Match) string {
	parts := []string{describePath(m.Path)}
	if m.Method != "" {
		parts = append(parts, "method "+m.Method)
	}
	for _, v := range m.Headers {
		parts = append(parts, "header "+describeValue(v))
	}
	for _, v := range m.Query {
		parts = append(parts, "query parameter "+describeValue(v))
	}
	return strings.Join(parts, ", ")
}

func describeValue(v plan.ValueMatch) string {
	if v.Regex {
		return v.Name + " ~ " + v.Value
	}
	return fmt.Sprintf("%s = %q", v.Name, v.Value)
}
