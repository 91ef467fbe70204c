package translate

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// routeJudgment gathers what was found about one route, conflicts apart.
type routeJudgment struct {
	choice           classChoice
	namespace        string
	granted, refused []string // hostnames
	problems         []string // of rules and matches
	validRules       int      // in the plan
	held             []string // of these, those that are served as they were last good
	unresolved       []refProblem
}

// verdict is the judgment when no other route takes anything.
func (j *routeJudgment) verdict(generation int64) RouteVerdict {
	accepted := j.accepted()
	v := RouteVerdict{Verdict: Verdict{
		Generation: generation,
		Conditions: []Condition{accepted, j.resolvedRefs(), j.noConflict()},
	}}
	if accepted.Status == metav1.ConditionTrue || len(j.granted) > 0 && len(j.held) > 0 {
		v.Served, v.Held = true, j.held
		v.Hostnames = j.granted
	}
	return v
}

// accepted decides, in this order: no class; no hostname left; no valid rule
// left; something left out; nothing wrong.
func (j *routeJudgment) accepted() Condition {
	c := Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse}
	if j.choice.class == nil {
		c.Reason, c.Message = j.choice.reason, bounded(j.choice.message)
		return c
	}
	var parts []string
	if len(j.refused) > 0 {
		parts = append(parts, j.refusedWords())
	}
	if len(j.problems) > 0 {
		parts = append(parts, capitalize(list(j.problems, "; "))+".")
	}
	if len(j.held) > 0 && len(j.granted) > 0 {
		parts = append(parts, "Served as they were last good: "+list(quoted(j.held), ", ")+".")
	}
	switch {
	case len(j.granted) == 0:
		c.Reason = v1alpha1.ReasonNotAllowedByClass
	case j.validRules == 0:
		c.Reason = v1alpha1.ReasonInvalidRule
		parts = append(parts, "No rule is left to serve.")
	case j.validRules == len(j.held):
		c.Reason = v1alpha1.ReasonInvalidRule
	case len(j.problems) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonPartiallyInvalid
		parts = append(parts, "The rest of the route is served.")
	case len(j.refused) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonPartiallyAllowed
		parts = append(parts, "The other hostnames are served.")
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonAccepted
		parts = append(parts, fmt.Sprintf("ProxyClass %s accepts the route.", quote(j.choice.class.name)))
	}
	c.Message = bounded(strings.Join(parts, " "))
	return c
}

// refusedWords names the hostnames that the class does not grant.
func (j *routeJudgment) refusedWords() string {
	what := list(j.refused, ", ")
	if len(j.refused) == 1 && j.refused[0] == anyHost {
		what = `"*", which a route without hostnames claims`
	}
	return fmt.Sprintf("ProxyClass %s does not grant namespace %s: %s. Correct spec.hostnames, or ask for a grant in the class's allowedRoutes.",
		quote(j.choice.class.name), quote(j.namespace), what)
}

// resolvedRefs takes its reason from the first reference that does not resolve.
func (j *routeJudgment) resolvedRefs() Condition {
	if len(j.unresolved) == 0 {
		return Condition{
			Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonResolvedRefs,
			Message: "Every Service and port was found.",
		}
	}
	items := make([]string, len(j.unresolved))
	for i, u := range j.unresolved {
		items[i] = u.message
	}
	whose := "Its"
	if len(items) > 1 {
		whose = "Their"
	}
	return Condition{
		Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionFalse, Reason: j.unresolved[0].reason,
		Message: bounded(capitalize(list(items, "; ")) + ". " + whose + " share of the requests is answered with 500."),
	}
}

// noConflict is the Conflicted condition of a route that lost nothing.
func (j *routeJudgment) noConflict() Condition {
	c := Condition{
		Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNoConflict,
		Message: "No earlier rule has the same match on the same hostname.",
	}
	if len(j.granted) == 0 {
		c.Message = "The route is not accepted, so it claims nothing."
	}
	return c
}

// conflicted is the Conflicted condition of a route that lost matches.
func conflicted(lost []string) Condition {
	return Condition{
		Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMatchTaken,
		Message: bounded(capitalize(list(lost, "; ")) + "."),
	}
}

// capitalize makes the start of a sentence of text that begins with a word of
// ours.
func capitalize(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
