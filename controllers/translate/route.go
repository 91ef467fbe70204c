package translate

import (
	"slices"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// routeInputs is everything that the meaning of a route depends on, besides its
// spec and conflicts.
type routeInputs struct {
	choice    classChoice
	namespace *namespace  // nil: not known
	refs      []refInputs // of all backendRefs, rule by rule
	secret    string      // Snapshot.SessionSecret
	held      []refInputs // of the legs of the last good versions in use
}

// sameAs says that compiling the same spec would give the same.
func (in *routeInputs) sameAs(o *routeInputs) bool {
	return in.choice == o.choice && in.namespace == o.namespace && in.secret == o.secret &&
		slices.Equal(in.refs, o.refs) && slices.Equal(in.held, o.held)
}

// compiledRoute is what became of a route.
type compiledRoute struct {
	in   routeInputs
	plan *plan.Route // nil: nothing of it is in the plan
	// clean is the verdict as long as no other route takes a match of it.
	clean RouteVerdict
	// names of the rules; broken are those with a problem, and held those of
	// them in whose place the last good version is.
	names, broken, held []string
}

// compileRoute judges a route by its spec and inputs alone. allowed is what the
// class of the route grants to its namespace; nil when it has no class. good are
// the last good versions of rules that have problems.
func compileRoute(o *v1alpha1.ProxyRoute, in routeInputs, allowed *hostSet, good map[string]goodRule) *compiledRoute {
	names, nameProblems := ruleNames(o.Spec.Rules)
	j := routeJudgment{choice: in.choice, namespace: o.Namespace}
	p := &plan.Route{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Generation: o.Generation}
	out := &compiledRoute{in: in, names: names}
	refs := in.refs
	for i := range o.Spec.Rules {
		n := len(o.Spec.Rules[i].BackendRefs)
		c := compileRule(o, &in, i, names[i], nameProblems[i], refs[:n])
		refs = refs[n:]
		if len(c.problems) > 0 {
			out.broken = append(out.broken, names[i])
			if g, ok := good[names[i]]; ok {
				c = g.stand(c, o.Namespace)
				j.held = append(j.held, names[i])
			}
		}
		j.problems = append(j.problems, c.problems...)
		j.unresolved = append(j.unresolved, c.unresolved...)
		if c.dropped {
			continue
		}
		if c.rule.Invalid == "" {
			j.validRules++
		}
		p.Rules = append(p.Rules, c.rule)
	}
	if in.choice.class != nil {
		p.Hostnames, j.refused = grantHostnames(o, allowed)
		j.granted = p.Hostnames
	}
	if len(j.held) > 0 {
		p.Generation = 0 // it is of two, and must not be taken for the newer one
	}
	out.clean, out.held = j.verdict(o.Generation), j.held
	if len(p.Hostnames) > 0 && len(p.Rules) > 0 {
		out.plan = p
	}
	return out
}

// grantHostnames splits the hostnames of a route into what the class grants and
// what it does not. A route without hostnames claims every host.
func grantHostnames(r *v1alpha1.ProxyRoute, allowed *hostSet) (granted, refused []string) {
	if len(r.Spec.Hostnames) == 0 {
		if allowed.covers(anyHost) {
			return []string{anyHost}, nil
		}
		return nil, []string{anyHost}
	}
	for _, h := range r.Spec.Hostnames {
		host := strings.ToLower(string(h))
		switch {
		case host == anyHost:
			refused = append(refused, `"*" (leave spec.hostnames out to claim every host)`)
		case !validHostname(host):
			refused = append(refused, quote(string(h))+" (not a hostname)")
		case slices.Contains(granted, host):
		case allowed.covers(host):
			granted = append(granted, host)
		default:
			refused = append(refused, host)
		}
	}
	return granted, refused
}
