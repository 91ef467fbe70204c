package translate

import (
	"fmt"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// compiledRule is a rule, or what is left of it.
type compiledRule struct {
	rule plan.Rule
	// dropped: no match is left, so there is nothing to put into the plan.
	dropped bool
	// problems that the user has to correct; they name the rule.
	problems []string
	// unresolved references, with messages that name the rule.
	unresolved []refProblem
}

// compileRule compiles one rule. A match that cannot be compiled is left out. A
// rule of which anything else is invalid keeps its matches and is marked
// invalid: its requests must not fall to a less specific rule that may be more
// permissive.
func compileRule(o *v1alpha1.ProxyRoute, in *routeInputs, index int, ruleName, nameProblem string, refs []refInputs) compiledRule {
	r := &o.Spec.Rules[index]
	out := compiledRule{rule: plan.Rule{Name: ruleName}}
	matches, problems := compileMatches(r)
	out.rule.Matches = matches
	out.dropped = len(matches) == 0

	invalid := func(why string) {
		if out.rule.Invalid == "" {
			out.rule.Invalid = why
		}
		problems = append(problems, why)
	}
	if nameProblem != "" {
		invalid(nameProblem)
	}
	defaults := in.choice.class.defaults()
	className := ""
	if in.choice.class != nil {
		className = in.choice.class.name
	}
	var err error
	if out.rule.Timeouts, err = timeouts(r.Timeouts, defaults.Timeouts, className); err != nil {
		invalid(err.Error())
	}
	if out.rule.Retry, err = retryPolicy(r.Retry, defaults.Retry, className); err != nil {
		invalid(err.Error())
	}
	if out.rule.Limits, err = limits(r.Limits, defaults.Limits, className); err != nil {
		invalid(err.Error())
	}
	if out.rule.Filters, err = filters(r.Filters); err != nil {
		invalid(err.Error())
	}
	if out.rule.Rebalance, err = rebalance(r.OnNoEndpoints); err != nil {
		invalid(err.Error())
	}
	if out.rule.Session, err = session(r.SessionPersistence, o, ruleName, in.secret); err != nil {
		invalid(err.Error())
	}
	out.compileLegs(o.Namespace, in.choice.class, r, refs, invalid)
	if out.rule.Invalid != "" {
		out.rule.Legs = nil
	}
	for _, p := range problems {
		out.problems = append(out.problems, fmt.Sprintf("rule %s: %s", quote(ruleName), p))
	}
	return out
}

// compileLegs compiles the backendRefs of a rule.
func (out *compiledRule) compileLegs(namespace string, c *class, r *v1alpha1.RouteRule, refs []refInputs, invalid func(why string)) {
	near := readStanzas(r.BackendPolicy, "backendPolicy")
	var far *stanzas
	if c != nil {
		far = c.policy
	}
	var weights uint64
	if len(r.BackendRefs) > 0 {
		out.rule.Legs = make([]plan.Leg, 0, len(r.BackendRefs))
	}
	for i := range r.BackendRefs {
		l, unresolved, problem := leg(&r.BackendRefs[i], refs[i], near, far, namespace)
		if problem != "" {
			invalid(problem)
		}
		if unresolved != nil {
			out.unresolved = append(out.unresolved, refProblem{unresolved.reason,
				fmt.Sprintf("rule %s: %s", quote(out.rule.Name), unresolved.message)})
		}
		weights += uint64(l.Weight)
		out.rule.Legs = append(out.rule.Legs, l)
	}
	if weights == 0 {
		invalid("no backendRef has a weight above 0")
	}
}

// ruleNames gives each rule its name: the user's, or rule-<index>. The schema
// keeps names unique; where one is not, the later rule has the name of its
// index and a problem.
func ruleNames(rules []v1alpha1.RouteRule) (names, problems []string) {
	names, problems = make([]string, len(rules)), make([]string, len(rules))
	taken := make(map[string]int, len(rules))
	for i := range rules {
		generated := fmt.Sprintf("rule-%d", i)
		names[i] = rules[i].Name
		switch first, used := taken[names[i]]; {
		case names[i] == "":
			names[i] = generated
		case used:
			names[i] = generated
			problems[i] = fmt.Sprintf("the name %s is also that of the rule with index %d; choose another", quote(rules[i].Name), first)
		case names[i] != generated && isGeneratedName(names[i]):
			names[i] = generated
			problems[i] = fmt.Sprintf("the name %s is of the form that rules without a name get; choose another", quote(rules[i].Name))
		}
		taken[names[i]] = i
	}
	return names, problems
}

// isGeneratedName recognizes rule-<number>.
func isGeneratedName(s string) bool {
	digits, ok := strings.CutPrefix(s, "rule-")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
