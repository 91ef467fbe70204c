package translate

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// The last good version of a rule stands in for one that has a problem which its
// user has to correct, wherever that comes from: its spec, its class's defaults
// or a BackendPolicy. All of the rule is as it was, matches and policies
// included. References are not: a Service that is gone, or a grant that was
// revoked, counts for it as for any other rule.
//
// A rule is known by the UID of its route and its own name, which is its index
// where it has none. What is known of it ends with either.

// goodRule is the last good version of a rule and what its legs refer to now.
type goodRule struct {
	rule *plan.Rule
	refs []refInputs // of its legs
}

// hold compiles a route again, with the last good versions of those rules that
// have problems, as far as there are any.
func (b *Builder) hold(e *routeEntry, allowed *hostSet) {
	in := e.compiled.in
	if !b.KeepLastGood {
		return
	}
	in.held = b.heldInputs(e, e.compiled.broken)
	good := make(map[string]goodRule)
	refs := in.held
	for _, n := range e.compiled.broken {
		if r := e.good[n]; r != nil {
			good[n] = goodRule{r, refs[:len(r.Legs)]}
			refs = refs[len(r.Legs):]
		}
	}
	if len(good) > 0 {
		e.compiled = compileRoute(e.object(), in, allowed, good)
	}
}

// heldInputs looks up what the legs of the last good versions of rules refer to.
func (b *Builder) heldInputs(e *routeEntry, rules []string) (held []refInputs) {
	for _, n := range rules {
		r := e.good[n]
		if r == nil {
			continue
		}
		for i := range r.Legs {
			k := &r.Legs[i].Pool
			ref := refInputs{service: b.services.byName[name{Namespace: k.Namespace, Name: k.Service}]}
			if k.Namespace != e.object().Namespace {
				ref.grants = b.refGrants[k.Namespace]
			}
			held = append(held, ref)
		}
	}
	return held
}

// remember takes the rules that are good now as the last good ones.
func (e *routeEntry) remember() {
	good := make(map[string]*plan.Rule, len(e.compiled.names))
	for _, n := range e.compiled.names {
		if r := e.good[n]; r != nil {
			good[n] = r
		}
	}
	if p := e.plan(); p != nil {
		for i := range p.Rules {
			if r := &p.Rules[i]; !slices.Contains(e.compiled.broken, r.Name) {
				good[r.Name] = r
			}
		}
	}
	e.good = good
}

// stand puts the last good version in the place of a rule with problems.
func (g goodRule) stand(broken compiledRule, routeNamespace string) compiledRule {
	out := compiledRule{rule: *g.rule, problems: broken.problems}
	out.rule.Legs = slices.Clone(g.rule.Legs)
	for i := range out.rule.Legs {
		l := &out.rule.Legs[i]
		if l.Invalid != "" {
			continue // it did not resolve then, and only the user can say what it means now
		}
		ref := v1alpha1.BackendRef{Namespace: &l.Pool.Namespace, Name: l.Pool.Service, Port: intstr.FromInt32(int32(l.Pool.Port))}
		if _, unresolved := resolve(&ref, g.refs[i], routeNamespace); unresolved != nil {
			*l = plan.Leg{Weight: l.Weight, Invalid: unresolved.message}
			out.unresolved = append(out.unresolved, refProblem{unresolved.reason,
				fmt.Sprintf("rule %s: %s", quote(out.rule.Name), unresolved.message)})
		}
	}
	return out
}
