package proxy

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// retryWords tells what the rule tries again, and what pays for it.
func (r *rule) retryWords() (words []string) {
	p := &r.retry
	if after := afterWords(p); p.Attempts == 0 || len(after) == 0 && p.HedgeAfter == 0 {
		words = append(words, "only what no endpoint has processed")
	} else {
		words = append(words, policyWords(p, after))
	}
	if p.HedgeAfter > 0 && p.Attempts > 0 {
		words = append(words, fmt.Sprintf("hedge: %s without a body go to another endpoint as well after %s without a response",
			methodWords[plan.RetrySafe], p.HedgeAfter))
	}
	for i := range r.legs {
		if l := &r.legs[i]; l.pool != nil {
			b := &l.key.Policy.RetryBudget
			words = append(words, fmt.Sprintf("budget of %s/%s:%d: %d%% of the requests of %s, and %d per %s",
				l.key.Namespace, l.key.Service, l.key.Port, b.Percent, b.Interval, b.MinCount, b.MinInterval))
		}
	}
	return words
}

var methodWords = [...]string{
	plan.RetrySafe:       "GET, HEAD, OPTIONS, TRACE",
	plan.RetryIdempotent: "GET, HEAD, OPTIONS, TRACE, PUT, DELETE",
	plan.RetryAny:        "any method",
}

// policyWords tells of the attempts that a policy asks for.
func policyWords(p *plan.Retry, after []string) string {
	s := fmt.Sprintf("attempts: %d more, for %s after %s", p.Attempts, methodWords[p.Methods],
		cmp.Or(strings.Join(after, ", "), "nothing that was processed"))
	if p.TotalTimeout > 0 {
		s += fmt.Sprintf("; within %s", p.TotalTimeout)
	}
	if p.Backoff > 0 {
		s += fmt.Sprintf("; after a pause of up to %s", p.Backoff)
		if p.MaxBackoff != p.Backoff && p.Attempts > 1 {
			s += fmt.Sprintf(", doubling up to %s", p.MaxBackoff)
		}
	}
	return s
}

// afterWords are what a policy asks for another attempt after.
func afterWords(p *plan.Retry) (words []string) {
	if p.On&plan.RetryReset != 0 {
		words = append(words, "a reset")
	}
	if p.On&plan.RetryCodes == 0 {
		return words
	}
	for c := 400; c < 600; c++ {
		if !p.Codes.Has(c) {
			continue
		}
		first := c
		for p.Codes.Has(c + 1) {
			c++
		}
		if first == c {
			words = append(words, fmt.Sprint(c))
		} else {
			words = append(words, fmt.Sprintf("%d-%d", first, c))
		}
	}
	return words
}
