package translate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// filters reads the filters of a rule, in order.
func filters(rule []v1alpha1.RouteFilter) (out []plan.Filter, err error) {
	for i := range rule {
		from := &rule[i]
		if from.Type != v1alpha1.RouteFilterRateLimit {
			return nil, fmt.Errorf("filters[%d]: type %s is not known to this version", i, quote(string(from.Type)))
		}
		if from.RateLimit == nil {
			return nil, fmt.Errorf("filters[%d]: rateLimit is required for type RateLimit", i)
		}
		f := fields{place: fmt.Sprintf("filters[%d].rateLimit.", i)}
		r := readRateLimit(&f, from.RateLimit)
		if f.problem != "" {
			return nil, errors.New(f.problem)
		}
		out = append(out, plan.Filter{Type: plan.FilterRateLimit, RateLimit: r})
	}
	return out, nil
}

var limitSources = map[v1alpha1.RateLimitKeyType]plan.LimitSource{
	"":                            plan.LimitByClientIP,
	v1alpha1.RateLimitKeyClientIP: plan.LimitByClientIP,
	v1alpha1.RateLimitKeyHeader:   plan.LimitByHeader,
	v1alpha1.RateLimitKeyCookie:   plan.LimitByCookie,
	v1alpha1.RateLimitKeyRoute:    plan.LimitByRoute,
}

func readRateLimit(f *fields, from *v1alpha1.RateLimit) plan.RateLimit {
	const most = 1000000
	r := plan.RateLimit{
		Requests: uint32(f.number("requests", &from.Requests, 1, 1, most)),
		Period:   f.duration("period", from.Period, time.Second),
		DryRun:   from.DryRun,
	}
	r.Burst = uint32(f.number("burst", from.Burst, int32(r.Requests), 1, most))
	if r.Period < time.Second || r.Period > 24*time.Hour {
		f.fail("period: %s is not from 1s to 24h", r.Period)
	}
	switch from.Scope {
	case "", v1alpha1.RateLimitScopeReplica:
	case v1alpha1.RateLimitScopeCluster:
		r.Cluster = true
	default:
		f.fail("scope %s is not known to this version", quote(string(from.Scope)))
	}
	if from.Key != nil {
		r.Key = readLimitKey(f, from.Key)
	}
	return r
}

func readLimitKey(f *fields, from *v1alpha1.RateLimitKey) plan.LimitKey {
	source, known := limitSources[from.Type]
	key := plan.LimitKey{Source: source}
	if from.Name != nil {
		key.Name = *from.Name
	}
	named := source == plan.LimitByHeader || source == plan.LimitByCookie
	switch {
	case !known:
		f.fail("key type %s is not known to this version", quote(string(from.Type)))
	case named != (key.Name != ""):
		f.fail("key.name is for the types Header and Cookie, and required there")
	case named && !isToken(key.Name):
		f.fail("key.name %s is not a token (RFC 9110, 5.6.2)", quote(key.Name))
	case source == plan.LimitByHeader:
		key.Name = strings.ToLower(key.Name)
	}
	return key
}
