package telemetry

import (
	"sync"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// overflowID names the series that all rules beyond the bound share. No route
// can have this name, as Kubernetes' names have no underscore.
var overflowID = proxy.RuleID{Route: "_overflow"}

// ruleSet is the series of all rules, and their collector.
type ruleSet struct {
	max   int
	log   logr.Logger
	cores *cores

	// noRule counts the requests that no rule took. Like overflow it is never
	// dropped.
	noRule   *ruleSeries
	overflow *ruleSeries

	mu    sync.Mutex
	round uint64 // counts the calls of retain
	live  map[proxy.RuleID]*ruleSeries
	// over are the rules that share overflow, and the round that last named
	// them.
	over map[proxy.RuleID]uint64
	// overflowed counts the rules ever put into over.
	overflowed uint64
}

func newRuleSet(maxRules int, log logr.Logger) *ruleSet {
	c := newCores()
	return &ruleSet{
		max:      maxRules,
		log:      log,
		cores:    c,
		noRule:   newRuleSeries(proxy.RuleID{}, c),
		overflow: newRuleSeries(overflowID, c),
		live:     map[proxy.RuleID]*ruleSeries{},
		over:     map[proxy.RuleID]uint64{},
	}
}

// series returns the series of the rule. A rule that had to share gets its own
// when it is asked for again and there is room.
func (s *ruleSet) series(id proxy.RuleID) *ruleSeries {
	switch id {
	case proxy.RuleID{}:
		return s.noRule
	case overflowID:
		return s.overflow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.live[id]; r != nil {
		return r
	}
	if len(s.live) < s.max {
		delete(s.over, id)
		r := newRuleSeries(id, s.cores)
		s.live[id] = r
		return r
	}
	if _, known := s.over[id]; !known {
		if len(s.over) == 0 {
			s.log.Info("more rules than the metrics name: the rest are counted together as route \"_overflow\"",
				"maxRules", s.max)
		}
		s.over[id] = s.round
		s.overflowed++
	}
	return s.overflow
}

// retain drops all rules that are not in ids. It allocates nothing, because it
// runs at every change of any endpoint.
func (s *ruleSet) retain(ids []proxy.RuleID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round++
	for _, id := range ids {
		if r := s.live[id]; r != nil {
			r.round = s.round
		} else if _, ok := s.over[id]; ok {
			s.over[id] = s.round
		}
	}
	for id, r := range s.live {
		if r.round != s.round {
			delete(s.live, id)
		}
	}
	for id, round := range s.over {
		if round != s.round {
			delete(s.over, id)
		}
	}
}

// ruleSnapshot is what a scrape should show.
type ruleSnapshot struct {
	all        []*ruleSeries // the live ones, noRule, and overflow once it was used
	live       int           // rules with series of their own
	sharing    int           // rules that share overflow
	overflowed uint64        // rules ever put to share overflow
}

func (s *ruleSet) snapshot() ruleSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*ruleSeries, 0, len(s.live)+2)
	for _, r := range s.live {
		all = append(all, r)
	}
	all = append(all, s.noRule)
	if s.overflowed > 0 {
		all = append(all, s.overflow)
	}
	return ruleSnapshot{all: all, live: len(s.live), sharing: len(s.over), overflowed: s.overflowed}
}
