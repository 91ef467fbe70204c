package controllers

import (
	"fmt"
	"math"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Health tells how the endpoints of a pool are; dataplane.Engine does. It is
// called concurrently.
type Health interface {
	// PoolHealth returns false for a pool that is not in the plan in force.
	PoolHealth(plan.PoolKey) (plan.PoolHealth, bool)
}

// maxListed is how many backends or endpoints a message names.
const maxListed = 5

// routeHealth is what the status of a route says of its backends. The zero
// value is that of a route without backends that are served.
type routeHealth struct {
	condition translate.Condition // Type "": none
	rules     []v1alpha1.RuleStatus
}

func (h routeHealth) equal(o routeHealth) bool {
	return h.condition == o.condition && slices.Equal(h.rules, o.rules)
}

// judgeHealth looks at the pools of a route that is served; nil is none. What it
// finds becomes the condition BackendsHealthy:
//
//	a pool is not known         Unknown  Unknown
//	a backend has nothing       False    NoUsableEndpoints
//	a pool is in panic          False    Panic
//	else                        True     BackendsHealthy
func judgeHealth(route *plan.Route, health Health) routeHealth {
	if route == nil || health == nil {
		return routeHealth{}
	}
	var f healthFindings
	var out routeHealth
	for i := range route.Rules {
		if counts, ok := f.rule(&route.Rules[i], health); ok {
			out.rules = append(out.rules, v1alpha1.RuleStatus{Name: route.Rules[i].Name, Endpoints: counts})
		}
	}
	if len(out.rules) > 0 {
		out.condition = f.condition()
	}
	return out
}

// healthFindings are the backends that there is something to say of, in words.
type healthFindings struct {
	unknown, empty, panicking []string
}

// rule counts the endpoints of the backends that have a weight, each pool once.
// It returns false when there is none.
func (f *healthFindings) rule(r *plan.Rule, health Health) (counts v1alpha1.EndpointCounts, ok bool) {
	var seen []plan.PoolKey
	var empty []string
	for _, l := range r.Legs {
		if l.Weight == 0 || l.Invalid != "" || slices.Contains(seen, l.Pool) {
			continue
		}
		seen = append(seen, l.Pool)
		words := fmt.Sprintf("rule %q: %s", r.Name, poolWords(l.Pool))
		h, known := health.PoolHealth(l.Pool)
		switch {
		case !known:
			f.unknown = append(f.unknown, words)
		case h.Panic:
			f.panicking = append(f.panicking, words)
		case h.Ready == 0 && (h.Draining == 0 || h.Ejected+h.Unhealthy > 0):
			empty = append(empty, words)
		}
		counts.Ready += count(h.Ready)
		counts.Draining += count(h.Draining)
		counts.Ejected += count(h.Ejected)
		counts.Unhealthy += count(h.Unhealthy)
	}
	// With Rebalance the others take the share of a backend that has nothing.
	if !r.Rebalance || len(empty) == len(seen) {
		f.empty = append(f.empty, empty...)
	}
	return counts, len(seen) > 0
}

func (f *healthFindings) condition() translate.Condition {
	c := translate.Condition{Type: v1alpha1.ConditionBackendsHealthy, Status: metav1.ConditionFalse}
	switch {
	case len(f.unknown) > 0:
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonUnknown
		c.Message = "the data plane does not serve all backends yet: " + listed(f.unknown)
	case len(f.empty) > 0:
		c.Reason = v1alpha1.ReasonNoUsableEndpoints
		c.Message = "no endpoint takes requests: " + listed(f.empty)
	case len(f.panicking) > 0:
		c.Reason = v1alpha1.ReasonPanic
		c.Message = "so few endpoints are usable that requests go to all, whatever their health: " + listed(f.panicking)
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonBackendsHealthy
		c.Message = "every backend has endpoints that take requests"
	}
	c.Message = cut(c.Message)
	return c
}

func poolWords(k plan.PoolKey) string {
	return fmt.Sprintf("Service %s/%s port %d", k.Namespace, k.Service, k.Port)
}

// listed joins some items and counts the others.
func listed(items []string) string {
	if len(items) <= maxListed {
		return strings.Join(items, "; ")
	}
	return strings.Join(items[:maxListed], "; ") + fmt.Sprintf("; and %d more", len(items)-maxListed)
}

func count(n int) int32 { return int32(max(0, min(n, math.MaxInt32/64))) }
