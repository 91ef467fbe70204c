package translate

import (
	"errors"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// builtInRetry is what a stanza retry leaves out. Without a stanza there is no
// policy: only what was never processed is tried again.
var builtInRetry = plan.Retry{
	Attempts: 1, Codes: statusSet(502, 504),
	On:           plan.RetryConnectFailure | plan.RetryReset | plan.RetryCodes,
	TotalTimeout: 5 * time.Second, Backoff: 50 * time.Millisecond, MaxBackoff: time.Second,
	MaxBodyBytes: 64 << 10, HonorRetryAfter: true,
}

// retryPolicy takes the stanza of the rule, else that of the class. With an error
// comes no policy.
func retryPolicy(rule, class *v1alpha1.Retry, className string) (plan.Retry, error) {
	from, inherited := rule, rule == nil
	if inherited {
		from = class
	}
	if from == nil {
		return plan.Retry{}, nil
	}
	f := &fields{place: defaultsOf(className, inherited)}
	p := readRetry(f, from)
	if f.problem != "" {
		return plan.Retry{}, errors.New(f.problem)
	}
	return p, nil
}

func readRetry(f *fields, from *v1alpha1.Retry) plan.Retry {
	p := builtInRetry
	p.Attempts = uint8(f.number("retry.attempts", from.Attempts, int32(p.Attempts), 0, 10))
	if from.Codes != nil {
		p.Codes = plan.StatusSet{}
		for _, c := range from.Codes {
			if c < 400 || c > 599 {
				f.fail("retry.codes: %d is not from 400 to 599", c)
			}
			p.Codes.Add(int(c), int(c))
		}
	}
	p.On = readConditions(f, from.Conditions)
	p.Methods = readMethods(f, from.Methods)
	p.TotalTimeout = f.duration("retry.totalTimeout", from.TotalTimeout, p.TotalTimeout)
	p.Backoff = f.duration("retry.backoff", from.Backoff, p.Backoff)
	p.MaxBackoff = f.duration("retry.maxBackoff", from.MaxBackoff, p.MaxBackoff)
	if p.MaxBackoff < p.Backoff {
		f.fail("retry.maxBackoff: %s is shorter than backoff, %s", p.MaxBackoff, p.Backoff)
	}
	if from.MaxBodyBytes != nil {
		n, err := parseByteSize(*from.MaxBodyBytes)
		if err != nil {
			f.fail("retry.maxBodyBytes: %v", err)
		}
		p.MaxBodyBytes = n
	}
	if from.HonorRetryAfter != nil {
		p.HonorRetryAfter = *from.HonorRetryAfter
	}
	p.HedgeAfter = readHedge(f, from.HedgeAfter, &p)
	return p
}

// readHedge reads hedgeAfter, which makes sense only where a second attempt can
// follow.
func readHedge(f *fields, from *v1alpha1.Duration, p *plan.Retry) time.Duration {
	d := f.duration("retry.hedgeAfter", from, 0)
	switch {
	case from == nil:
	case d <= 0:
		f.fail("retry.hedgeAfter: %s is not longer than 0s", d)
	case p.Attempts == 0:
		f.fail("retry.hedgeAfter: attempts is 0, so no second attempt may be made")
	case p.TotalTimeout > 0 && d >= p.TotalTimeout:
		f.fail("retry.hedgeAfter: %s is not shorter than totalTimeout, %s", d, p.TotalTimeout)
	}
	return d
}

func readConditions(f *fields, from []v1alpha1.RetryCondition) plan.RetryOn {
	if from == nil {
		return builtInRetry.On
	}
	on := plan.RetryConnectFailure
	for _, c := range from {
		switch c {
		case v1alpha1.RetryOnConnectFailure:
		case v1alpha1.RetryOnReset:
			on |= plan.RetryReset
		case v1alpha1.RetryOnCodes:
			on |= plan.RetryCodes
		default:
			f.fail("retry.conditions: %s is not known to this version", quote(string(c)))
		}
	}
	return on
}

func readMethods(f *fields, from v1alpha1.RetryMethods) plan.RetryMethods {
	switch from {
	case "", v1alpha1.RetryMethodsSafe:
		return plan.RetrySafe
	case v1alpha1.RetryMethodsIdempotent:
		return plan.RetryIdempotent
	case v1alpha1.RetryMethodsAny:
		return plan.RetryAny
	}
	f.fail("retry.methods: %s is not known to this version", quote(string(from)))
	return plan.RetrySafe
}

func readRetryBudget(f *fields, from *v1alpha1.RetryBudget) plan.RetryBudget {
	b := builtInPolicy.RetryBudget
	b.Percent = uint8(f.number("retryBudget.percent", from.Percent, int32(b.Percent), 0, 100))
	b.Interval = f.duration("retryBudget.interval", from.Interval, b.Interval)
	if b.Interval < time.Second || b.Interval > time.Hour {
		f.fail("retryBudget.interval: %s is not from 1s to 1h", b.Interval)
	}
	if r := from.MinRetryRate; r != nil {
		b.MinCount = uint32(f.number("retryBudget.minRetryRate.count", r.Count, int32(b.MinCount), 0, 1e6))
		b.MinInterval = f.duration("retryBudget.minRetryRate.interval", r.Interval, b.MinInterval)
		if b.MinInterval < 100*time.Millisecond || b.MinInterval > time.Hour {
			f.fail("retryBudget.minRetryRate.interval: %s is not from 100ms to 1h", b.MinInterval)
		}
	}
	return b
}
