package controllers

import (
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxMessage is the limit of the API for the message of a condition, in bytes
// here, which is on the safe side.
const maxMessage = 32768

// kind distinguishes the kinds that have a status of ours.
type kind uint8

const (
	kindRoute kind = iota + 1
	kindPolicy
	kindClass
)

// objectKey names an object that has a status of ours.
type objectKey struct {
	kind kind
	types.NamespacedName
}

// keyOf returns the key of an object of ours.
func keyOf(o client.Object) objectKey {
	k := objectKey{NamespacedName: client.ObjectKeyFromObject(o)}
	switch o.(type) {
	case *v1alpha1.ProxyRoute:
		k.kind = kindRoute
	case *v1alpha1.BackendPolicy:
		k.kind = kindPolicy
	case *v1alpha1.ProxyClass:
		k.kind = kindClass
	}
	return k
}

// verdictSet is what the statuses of all objects should say. It is immutable.
type verdictSet map[objectKey]verdict

// verdict is what the status of one version of one object should say.
type verdict struct {
	version
	conditions []translate.Condition
	hostnames  []string    // of a route
	route      *plan.Route // what of a route is served; nil: nothing
	inForce    bool        // of a route: Programmed, as far as this replica goes
}

// with returns the verdict with a condition, in the place of the one of its type
// if there is one. A condition without a type is none.
func (v verdict) with(c translate.Condition) verdict {
	if c.Type == "" {
		return v
	}
	v.conditions = slices.Clone(v.conditions)
	if i := slices.IndexFunc(v.conditions, func(o translate.Condition) bool { return o.Type == c.Type }); i >= 0 {
		v.conditions[i] = c
	} else {
		v.conditions = append(v.conditions, c)
	}
	return v
}

// equal says that a status that says v needs no write to say w. What is served
// is not part of it: the health of backends is looked at by itself.
func (v verdict) equal(w verdict) bool {
	return v.version == w.version && slices.Equal(v.conditions, w.conditions) && slices.Equal(v.hostnames, w.hostnames)
}

// judge puts the verdicts of a build and what became of its plan together.
// applied are the routes that the plan in force serves; refused is why the plan
// of this build is not the one in force, nil when it is.
func judge(s translate.Snapshot, r translate.Result, applied map[types.NamespacedName]version, refused error) verdictSet {
	v := r.Verdicts
	routes := make(map[types.NamespacedName]*plan.Route, len(r.Plan.Routes))
	for _, p := range r.Plan.Routes {
		routes[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	set := make(verdictSet, len(v.Routes)+len(v.Policies)+len(v.Classes))
	for _, o := range s.Routes {
		key := keyOf(o)
		rv := v.Routes[key.NamespacedName]
		ver := version{o.UID, o.Generation}
		p := programmed(rv, applied[key.NamespacedName] == ver, refused)
		conditions := append(slices.Clip(bounded(rv.Conditions)), p)
		set[key] = verdict{version: ver, conditions: conditions, hostnames: rv.Hostnames, route: routes[key.NamespacedName],
			inForce: p.Status == metav1.ConditionTrue}
	}
	for _, o := range s.Policies {
		key := keyOf(o)
		set[key] = verdict{version: version{o.UID, o.Generation}, conditions: bounded(v.Policies[key.NamespacedName].Conditions)}
	}
	for _, o := range s.Classes {
		key := keyOf(o)
		set[key] = verdict{version: version{o.UID, o.Generation}, conditions: bounded(v.Classes[key.Name].Conditions)}
	}
	return set
}

// programmed returns the condition Programmed of a route, as far as this replica
// goes; where it is True, census.judge has the last word:
//
//	plan taken | route served by | version in | status reason
//	           | the build       | force      |
//	yes        | rules held      | -          | False  UsingLastKnownGood
//	yes        | yes             | -          | True   Programmed
//	yes        | no              | -          | False  Invalid
//	no         | -               | yes        | True   Programmed: what is in force is this version
//	no         | -               | no         | False  Pending
func programmed(v translate.RouteVerdict, inForce bool, refused error) translate.Condition {
	c := translate.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse}
	switch {
	case refused == nil && len(v.Held) > 0:
		c.Reason = v1alpha1.ReasonUsingLastKnownGood
		c.Message = cut("the data plane serves the last good version of " + strings.Join(v.Held, ", ") + "; the condition Accepted says what to correct")
	case refused == nil && !v.Served:
		c.Reason = v1alpha1.ReasonInvalid
		c.Message = "nothing of the route is served; the other conditions say why"
	case refused == nil || inForce:
		c.Status = metav1.ConditionTrue
		c.Reason = v1alpha1.ReasonProgrammed
		c.Message = "the data plane serves this generation"
	default:
		c.Reason = v1alpha1.ReasonPending
		c.Message = cut("the data plane has not taken this generation and keeps what it had: " + refused.Error())
	}
	return c
}

// sameBut says that two lists have the same conditions, but for one type.
func sameBut(conditionType string, a, b []metav1.Condition) bool {
	other := func(c metav1.Condition) bool { return c.Type == conditionType }
	return slices.Equal(slices.DeleteFunc(slices.Clone(a), other), slices.DeleteFunc(slices.Clone(b), other))
}

// sameOf says that two lists have the same condition of a type, or none.
func sameOf(conditionType string, a, b []metav1.Condition) bool {
	x, y := meta.FindStatusCondition(a, conditionType), meta.FindStatusCondition(b, conditionType)
	return x == nil && y == nil || x != nil && y != nil && *x == *y
}

// bounded returns conditions whose messages the API server accepts.
func bounded(conditions []translate.Condition) []translate.Condition {
	for i := range conditions {
		if len(conditions[i].Message) > maxMessage {
			conditions = slices.Clone(conditions)
			for j := range conditions {
				conditions[j].Message = cut(conditions[j].Message)
			}
			break
		}
	}
	return conditions
}

// cut shortens a message to what the API server accepts.
func cut(msg string) string {
	if len(msg) <= maxMessage {
		return msg
	}
	const more = " ..."
	n := maxMessage - len(more)
	for n > 0 && !utf8.RuneStart(msg[n]) {
		n--
	}
	return strings.ToValidUTF8(msg[:n], "") + more
}

// ourConditions are the condition types that this package writes, and removes
// when a verdict has them no longer.
var ourConditions = []string{
	v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs, v1alpha1.ConditionProgrammed, v1alpha1.ConditionConflicted,
	v1alpha1.ConditionBackendsHealthy,
}

// merge returns the conditions of an object after a verdict and whether they
// differ from current, which is left alone. Conditions of other types stay; a
// condition whose status stays keeps its lastTransitionTime.
func merge(current []metav1.Condition, v verdict) (_ []metav1.Condition, changed bool) {
	next := slices.Clone(current)
	for _, c := range v.conditions {
		if meta.SetStatusCondition(&next, metav1.Condition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, ObservedGeneration: v.generation,
		}) {
			changed = true
		}
	}
	next = slices.DeleteFunc(next, func(c metav1.Condition) bool {
		stale := slices.Contains(ourConditions, c.Type) &&
			!slices.ContainsFunc(v.conditions, func(w translate.Condition) bool { return w.Type == c.Type })
		changed = changed || stale
		return stale
	})
	return next, changed
}
