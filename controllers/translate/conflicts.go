package translate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// claimBook finds conflicts: matches on one hostname that are equal, so that
// only the order of their rules decides. It files the routes by hostname, and
// looks again only at the hostnames of routes that changed.
type claimBook struct {
	byHost map[string][]*routeEntry
	// Buffers of judgeHost.
	claims map[claimKey]claimant
	sets   conditionSets
}

// claimKey is a match. Two matches with equal keys are met by the same requests.
type claimKey struct {
	path       plan.PathMatch
	method     string
	conditions conditionSet
}

// claimant is a rule of a route that has a claim; rule is an index into the
// rules of the plan.
type claimant struct {
	route *routeEntry
	rule  int
}

// hostOutcome is what a route has on one of its hostnames.
type hostOutcome struct {
	held bool // a valid rule has a match that is not taken
	lost []loss
}

// loss is a match, by its indices in the plan, that an earlier rule has taken.
type loss struct {
	rule, match int
	winner      claimant
}

// refile moves a route from the hostnames of its old plan to those of its new
// one and adds them all to touched. Either plan may be nil.
func (b *claimBook) refile(e *routeEntry, before, after *plan.Route, touched map[string]struct{}) {
	if b.byHost == nil {
		b.byHost = make(map[string][]*routeEntry)
	}
	if before != nil {
		for _, h := range before.Hostnames {
			b.byHost[h] = slices.DeleteFunc(b.byHost[h], func(o *routeEntry) bool { return o == e })
			touched[h] = struct{}{}
		}
	}
	e.hosts = nil
	if after != nil {
		e.hosts = make([]hostOutcome, len(after.Hostnames))
		for _, h := range after.Hostnames {
			b.byHost[h] = append(b.byHost[h], e)
			touched[h] = struct{}{}
		}
	}
}

// judge decides who has which match on the touched hostnames and returns the
// routes that have any of them.
func (b *claimBook) judge(touched map[string]struct{}) map[*routeEntry]struct{} {
	affected := make(map[*routeEntry]struct{}, len(touched))
	for h := range touched {
		routes := b.byHost[h]
		if len(routes) == 0 {
			delete(b.byHost, h)
			continue
		}
		slices.SortFunc(routes, entriesByAge)
		b.judgeHost(h, routes)
		for _, e := range routes {
			affected[e] = struct{}{}
		}
	}
	return affected
}

// judgeHost gives each match on a hostname to the first rule that has it.
func (b *claimBook) judgeHost(host string, routes []*routeEntry) {
	if b.claims == nil {
		b.claims = make(map[claimKey]claimant)
	}
	clear(b.claims)
	b.sets.reset()
	for _, e := range routes {
		p := e.plan()
		outcome := &e.hosts[slices.Index(p.Hostnames, host)]
		*outcome = hostOutcome{}
		for r := range p.Rules {
			for m := range p.Rules[r].Matches {
				match := &p.Rules[r].Matches[m]
				key := claimKey{path: match.Path, method: match.Method, conditions: b.sets.number(match)}
				me := claimant{e, r}
				winner, taken := b.claims[key]
				switch {
				case !taken:
					b.claims[key] = me
					outcome.held = outcome.held || p.Rules[r].Invalid == ""
				case winner != me: // a rule that repeats itself does no harm
					outcome.lost = append(outcome.lost, loss{r, m, winner})
				}
			}
		}
	}
}

// verdict is the clean verdict of a route with what the conflicts change in it.
func (e *routeEntry) verdict() RouteVerdict {
	v := e.compiled.clean
	lost := e.lostWords()
	if len(lost) == 0 {
		return v
	}
	v.Conditions = slices.Clone(v.Conditions)
	v.Conditions[len(v.Conditions)-1] = conflicted(lost)
	v.Hostnames = nil
	for i, h := range e.compiled.clean.Hostnames {
		if e.hosts[i].held {
			v.Hostnames = append(v.Hostnames, h)
		}
	}
	return v
}

// lostWords names the matches that the route lost, in the order of the user,
// with the hostnames that one winner has in one item.
func (e *routeEntry) lostWords() (words []string) {
	var losses []loss
	hosts := make(map[loss][]string)
	for i := range e.hosts {
		for _, l := range e.hosts[i].lost {
			if hosts[l] == nil {
				losses = append(losses, l)
			}
			hosts[l] = append(hosts[l], e.plan().Hostnames[i])
		}
	}
	slices.SortStableFunc(losses, func(a, b loss) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.match, b.match))
	})
	for _, l := range losses {
		words = append(words, e.lossWords(l, hosts[l]))
	}
	return words
}

func (e *routeEntry) lossWords(l loss, hosts []string) string {
	rule := &e.plan().Rules[l.rule]
	taken := fmt.Sprintf("rule %s: %s on %s is taken by ", quote(rule.Name), matchWords(rule.Matches[l.match]), listSome(hosts, ", ", maxHosts))
	winner := l.winner.route
	winnerRule := quote(winner.plan().Rules[l.winner.rule].Name)
	if winner == e {
		return taken + fmt.Sprintf("rule %s of this route, which comes first", winnerRule)
	}
	return taken + fmt.Sprintf("%s rule %s, %s", nameOf(winner.object()), winnerRule, orderWords(winner.object(), e.object()))
}

// conditionSet stands for a set of header and query conditions; equal sets have
// equal numbers, whatever their order. 0 is the empty set.
type conditionSet uint32

// condition is a set with one more condition. Numbering these pairs numbers
// sets of any size by comparable keys.
type condition struct {
	rest  conditionSet
	query bool // else a header
	value plan.ValueMatch
}

// conditionSets numbers sets in the order in which they are met.
type conditionSets struct {
	numbers map[condition]conditionSet
	buffer  []condition
}

func (s *conditionSets) reset() { clear(s.numbers) }

func (s *conditionSets) number(m *plan.Match) conditionSet {
	if len(m.Headers) == 0 && len(m.Query) == 0 {
		return 0
	}
	if s.numbers == nil {
		s.numbers = make(map[condition]conditionSet)
	}
	s.buffer = s.buffer[:0]
	for _, h := range m.Headers {
		s.buffer = append(s.buffer, condition{value: h})
	}
	for _, q := range m.Query {
		s.buffer = append(s.buffer, condition{query: true, value: q})
	}
	slices.SortFunc(s.buffer, compareConditions)
	var set conditionSet
	for _, c := range slices.Compact(s.buffer) {
		c.rest = set
		n, ok := s.numbers[c]
		if !ok {
			n = conditionSet(len(s.numbers) + 1)
			s.numbers[c] = n
		}
		set = n
	}
	return set
}

func compareConditions(a, b condition) int {
	return cmp.Or(
		compareBools(a.query, b.query),
		cmp.Compare(a.value.Name, b.value.Name),
		compareBools(a.value.Regex, b.value.Regex),
		cmp.Compare(a.value.Value, b.value.Value),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
