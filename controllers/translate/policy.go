package translate

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// target is a Service, or one of its ports when port is not 0.
type target struct {
	service name
	port    int32
}

// policies is the outcome of all BackendPolicies.
type policies struct {
	won      map[target]*stanzas // what holds on a target
	verdicts map[name]Verdict
}

// judgePolicies gives each target to the oldest policy that names it.
func judgePolicies(objects *gathered[*v1alpha1.BackendPolicy], services map[name]*service) policies {
	ordered := slices.SortedFunc(objects.all(), byAge)

	out := policies{won: make(map[target]*stanzas), verdicts: make(map[name]Verdict, len(ordered))}
	owners := make(map[target]*v1alpha1.BackendPolicy)
	for _, o := range ordered {
		var j policyJudgment
		for _, ref := range o.Spec.TargetRefs {
			t, words, problem := findTarget(o.Namespace, ref, services)
			if problem != "" {
				j.missing = append(j.missing, problem)
				continue
			}
			j.found++
			owner := owners[t]
			switch owner {
			case nil:
				owners[t] = o
				out.won[t] = readStanzas(&o.Spec.BackendSettings, "BackendPolicy "+nameOf(o).String())
			case o:
			default:
				j.taken = append(j.taken, fmt.Sprintf("%s is taken by BackendPolicy %s, %s",
					words, nameOf(owner), orderWords(owner, o)))
			}
		}
		out.verdicts[nameOf(o)] = j.verdict(o)
	}
	return out
}

// findTarget resolves a targetRef; problem is not empty when there is no such
// target.
func findTarget(ns string, ref v1alpha1.PolicyTargetRef, services map[name]*service) (t target, words, problem string) {
	if ref.Kind != "" && ref.Kind != "Service" {
		return t, "", fmt.Sprintf("kind %s is not supported, only Service is", quote(ref.Kind))
	}
	t.service = name{Namespace: ns, Name: ref.Name}
	s := services[t.service]
	if s == nil {
		return t, "", fmt.Sprintf("Service %s does not exist", short(t.service.String()))
	}
	words = "Service " + t.service.String()
	if ref.Port == nil {
		return t, words, ""
	}
	p, ok := s.port(*ref.Port)
	if !ok {
		return t, "", fmt.Sprintf("%s has no port %s", words, portWords(*ref.Port))
	}
	t.port = p.number
	return t, fmt.Sprintf("%s port %s", words, p), ""
}

// portWords shows a port reference as the user wrote it.
func portWords(p intstr.IntOrString) string {
	if p.Type == intstr.String {
		return quote(p.StrVal)
	}
	return fmt.Sprint(p.IntVal)
}

// policyJudgment gathers what was found about one policy.
type policyJudgment struct {
	found          int
	missing, taken []string
}

func (j *policyJudgment) verdict(o *v1alpha1.BackendPolicy) Verdict {
	accepted := Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted,
		Message: "All targets exist.",
	}
	switch {
	case j.found == 0:
		accepted.Status, accepted.Reason = metav1.ConditionFalse, v1alpha1.ReasonTargetNotFound
		accepted.Message = bounded("The policy has no effect: " + list(j.missing, "; ") + ".")
	case len(j.missing) > 0:
		accepted.Message = bounded("Some targets do not exist: " + list(j.missing, "; ") + ".")
	}
	conflicted := Condition{
		Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNoConflict,
		Message: "No earlier policy has the same target.",
	}
	if len(j.taken) > 0 {
		conflicted.Status, conflicted.Reason = metav1.ConditionTrue, v1alpha1.ReasonTargetTaken
		conflicted.Message = bounded(list(j.taken, "; ") + ". There this policy has no effect.")
	}
	return Verdict{Generation: o.Generation, Conditions: []Condition{accepted, conflicted}}
}
