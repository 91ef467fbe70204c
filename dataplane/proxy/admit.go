package proxy

import "github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"

// admit holds the request against the limits of its rule, the cheapest ones
// first.
func (ex *exchange) admit() Reason {
	ex.series.Begin()
	r := ex.rule
	if r.invalid != "" {
		ex.detail = r.invalid
		return ReasonRuleInvalid
	}
	if limit := r.limits.MaxRequestBodyBytes; limit > 0 {
		if ex.req.ContentLength > limit {
			return ReasonRequestBodyTooLarge
		}
		ex.reqBody.Limit(limit)
	}
	if r.inFlight != nil {
		if !r.inFlight.Acquire(r.limits.MaxInFlight) {
			return ReasonTooManyInFlight
		}
		ex.inRule = r.inFlight
	}
	return ReasonOK
}

// leave ends what the request counts as. It is called once, at its end.
func (ex *exchange) leave() {
	if ex.inRule != nil {
		ex.inRule.Release()
		ex.inRule = nil
	}
}

// kept is what the limits of rules count. It is carried over from table to table
// by what the limits belong to, so that a swap starts no count anew.
type kept struct {
	inFlight map[RuleID]*limit.InFlight
}

// limitRule gives a compiled rule what its limits count: what prev has of it,
// else something new. prev may be nil.
func (c *rule) limitRule(prev *Table) {
	if c.limits.MaxInFlight == 0 {
		return
	}
	if prev != nil {
		c.inFlight = prev.kept.inFlight[c.id]
	}
	if c.inFlight == nil {
		c.inFlight = new(limit.InFlight)
	}
}

// keep takes note of what a rule's limits count, for the next table.
func (k *kept) keep(c *rule) {
	if c.inFlight == nil {
		return
	}
	if k.inFlight == nil {
		k.inFlight = make(map[RuleID]*limit.InFlight)
	}
	k.inFlight[c.id] = c.inFlight
}
