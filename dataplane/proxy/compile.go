package proxy

import (
	"fmt"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// Table is a compiled plan. It is immutable; what its rules point to (pools,
// series, what their limits count) lives on across tables.
type Table struct {
	routes   *route.Table[*rule]
	compiled map[*plan.Route][]*rule
	plan     plan.Plan
	kept     kept
}

// rule is a compiled rule.
type rule struct {
	id      RuleID
	series  Series
	invalid string
	legs    []leg
	weights uint64 // the sum of the legs'

	rebalance bool
	session   *session // nil: none

	timeouts plan.Timeouts
	limits   plan.Limits
	retry    plan.Retry
	inFlight *limit.InFlight // nil: not limited

	rates      []rateLimit
	rateKeys   []bucketsOf // of each of rates
	ratePolicy string      // the field RateLimit-Policy; "" when nothing is enforced
}

// leg is a compiled backend of a rule.
type leg struct {
	weight  uint64
	pool    *upstream.Pool // nil when invalid
	invalid string
	key     plan.PoolKey
	hash    *plan.HashKey // nil: the balancer goes by no key
	name    uint64        // stands for its Service port in the cookies of sessions
}

// Compile makes a table of a plan whose pools are all alive in reg. Routes that
// are the same pointers as in prev keep their compiled rules; prev may be nil.
func Compile(p plan.Plan, reg *upstream.Registry, sink Sink, prev *Table) (*Table, error) {
	t := &Table{compiled: make(map[*plan.Route][]*rule, len(p.Routes)), plan: p}
	entries := make([]route.Entry[*rule], 0, len(p.Routes))
	for _, r := range p.Routes {
		rules, err := compileRoute(r, reg, sink, prev)
		if err != nil {
			return nil, err
		}
		t.compiled[r] = rules
		for i, c := range rules {
			t.kept.keep(c)
			entries = append(entries, route.Entry[*rule]{Hostnames: r.Hostnames, Matches: r.Rules[i].Matches, Value: c})
		}
	}
	var before *route.Table[*rule]
	if prev != nil {
		before = prev.routes
	}
	routes, err := route.Build(entries, before)
	if err != nil {
		return nil, err
	}
	t.routes = routes
	return t, nil
}

func compileRoute(r *plan.Route, reg *upstream.Registry, sink Sink, prev *Table) ([]*rule, error) {
	if prev != nil {
		if rules, ok := prev.compiled[r]; ok && alive(rules, reg) {
			return rules, nil
		}
	}
	rules := make([]*rule, len(r.Rules))
	for i := range r.Rules {
		c, err := compileRule(r, &r.Rules[i], reg)
		if err != nil {
			return nil, err
		}
		c.series = sink.Series(c.id)
		c.limitRule(prev)
		c.limitRates(r.Rules[i].Filters, prev)
		rules[i] = c
	}
	return rules, nil
}

// alive reports whether the pools of compiled rules are those of the registry.
func alive(rules []*rule, reg *upstream.Registry) bool {
	for _, r := range rules {
		for i := range r.legs {
			if l := &r.legs[i]; l.pool != nil && reg.Pool(l.key) != l.pool {
				return false
			}
		}
	}
	return true
}

func compileRule(r *plan.Route, pr *plan.Rule, reg *upstream.Registry) (*rule, error) {
	c := &rule{
		id:       RuleID{Namespace: r.Namespace, Route: r.Name, Rule: pr.Name},
		invalid:  pr.Invalid,
		timeouts: pr.Timeouts,
		limits:   pr.Limits,
		retry:    pr.Retry,

		rebalance: pr.Rebalance,
		session:   compileSession(&pr.Session),
	}
	for i := range pr.Legs {
		pl := &pr.Legs[i]
		l := leg{weight: uint64(pl.Weight), invalid: pl.Invalid, key: pl.Pool}
		if l.invalid == "" {
			if l.pool = reg.Pool(pl.Pool); l.pool == nil {
				return nil, fmt.Errorf("plan: route %s/%s rule %q names pool %s/%s:%d, which the plan does not have",
					r.Namespace, r.Name, pr.Name, pl.Pool.Namespace, pl.Pool.Service, pl.Pool.Port)
			}
		}
		if lb := &pl.Pool.Policy.LoadBalancing; lb.Balancer == plan.ConsistentHash {
			l.hash = &lb.Hash
		}
		l.name = legName(&pl.Pool)
		c.weights += l.weight
		c.legs = append(c.legs, l)
	}
	if c.weights == 0 && c.invalid == "" {
		c.invalid = "no backend has a weight above 0"
	}
	return c, nil
}

// RuleIDs returns the ids of all rules of the table.
func (t *Table) RuleIDs() []RuleID {
	ids := make([]RuleID, 0, len(t.compiled))
	for _, r := range t.plan.Routes {
		for _, c := range t.compiled[r] {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// Plan returns the plan that the table was compiled from.
func (t *Table) Plan() plan.Plan { return t.plan }
