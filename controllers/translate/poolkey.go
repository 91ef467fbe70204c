package translate

import (
	"cmp"
	"slices"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// comparePoolKeys orders pool keys totally: 0 is for equal keys only. Most
// Services have one policy, so that the comparison rarely gets to it.
func comparePoolKeys(a, b plan.PoolKey) int {
	if c := cmp.Or(
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Service, b.Service),
		cmp.Compare(a.Port, b.Port),
	); c != 0 || a.Policy == b.Policy {
		return c
	}
	return comparePolicies(&a.Policy, &b.Policy)
}

func comparePolicies(a, b *plan.Policy) int {
	return cmp.Or(
		compareLoadBalancing(&a.LoadBalancing, &b.LoadBalancing),
		compareActive(&a.Active, &b.Active),
		comparePassive(&a.Passive, &b.Passive),
		cmp.Compare(a.PanicThresholdPercent, b.PanicThresholdPercent),
		cmp.Compare(a.Connection.MaxIdlePerEndpoint, b.Connection.MaxIdlePerEndpoint),
		cmp.Compare(a.Connection.IdleTimeout, b.Connection.IdleTimeout),
		cmp.Compare(a.Connection.MaxAge, b.Connection.MaxAge),
		compareBreakers(&a.Breaker, &b.Breaker),
		cmp.Compare(a.DrainTimeout, b.DrainTimeout),
		compareRetryBudgets(&a.RetryBudget, &b.RetryBudget),
	)
}

func compareLoadBalancing(a, b *plan.LoadBalancing) int {
	return cmp.Or(
		cmp.Compare(a.Balancer, b.Balancer),
		cmp.Compare(a.Hash.Source, b.Hash.Source),
		cmp.Compare(a.Hash.Name, b.Hash.Name),
		cmp.Compare(a.SlowStart, b.SlowStart),
		cmp.Compare(a.SlowStartMinPercent, b.SlowStartMinPercent),
		compareBools(a.PreferClose, b.PreferClose),
	)
}

func compareRetryBudgets(a, b *plan.RetryBudget) int {
	return cmp.Or(
		cmp.Compare(a.Percent, b.Percent),
		cmp.Compare(a.Interval, b.Interval),
		cmp.Compare(a.MinCount, b.MinCount),
		cmp.Compare(a.MinInterval, b.MinInterval),
	)
}

func compareActive(a, b *plan.ActiveCheck) int {
	return cmp.Or(
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Interval, b.Interval),
		cmp.Compare(a.Timeout, b.Timeout),
		cmp.Compare(a.JitterPercent, b.JitterPercent),
		cmp.Compare(a.UnhealthyThreshold, b.UnhealthyThreshold),
		cmp.Compare(a.HealthyThreshold, b.HealthyThreshold),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Host, b.Host),
		cmp.Compare(a.Method, b.Method),
		slices.Compare(a.Expected[:], b.Expected[:]),
		cmp.Compare(a.Service, b.Service),
	)
}

func comparePassive(a, b *plan.PassiveCheck) int {
	return cmp.Or(
		cmp.Compare(a.ConsecutiveFailures, b.ConsecutiveFailures),
		slices.Compare(a.Statuses[:], b.Statuses[:]),
		cmp.Compare(a.FailurePercent, b.FailurePercent),
		cmp.Compare(a.FailureMinRequests, b.FailureMinRequests),
		cmp.Compare(a.FailureWindow, b.FailureWindow),
		cmp.Compare(a.BaseEjection, b.BaseEjection),
		cmp.Compare(a.MaxEjection, b.MaxEjection),
		cmp.Compare(a.MaxEjectedPercent, b.MaxEjectedPercent),
	)
}
