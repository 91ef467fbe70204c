package proxy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

func TestAnExplanationHasThePolicyOfRetriesAndItsBudget(t *testing.T) {
	const budget = "budget of shop/web:80: 20% of the requests of 10s, and 10 per 1s"
	for name, tc := range map[string]struct {
		change func(r *plan.Retry)
		want   []string
	}{
		"none": {func(r *plan.Retry) { *r = plan.Retry{} }, []string{"only what no endpoint has processed"}},
		"a hedge without attempts": {func(r *plan.Retry) { *r = plan.Retry{HedgeAfter: time.Second} },
			[]string{"only what no endpoint has processed"}},
		"usual": {func(*plan.Retry) {}, []string{
			"attempts: 2 more, for GET, HEAD, OPTIONS, TRACE after a reset, 502-504; within 5s; after a pause of up to 50ms, doubling up to 1s",
		}},
		"codes": {func(r *plan.Retry) {
			r.On, r.Methods, r.Attempts, r.TotalTimeout, r.Codes = plan.RetryCodes, plan.RetryIdempotent, 1, 0, plan.StatusSet{}
			r.Codes.Add(429, 429)
			r.Codes.Add(599, 599)
		}, []string{"attempts: 1 more, for GET, HEAD, OPTIONS, TRACE, PUT, DELETE after 429, 599; after a pause of up to 50ms"}},
		"hedges alone": {func(r *plan.Retry) { *r = plan.Retry{Attempts: 1, HedgeAfter: hedgeAfter} }, []string{
			"attempts: 1 more, for GET, HEAD, OPTIONS, TRACE after nothing that was processed",
			"hedge: GET, HEAD, OPTIONS, TRACE without a body go to another endpoint as well after 100ms without a response",
		}},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.apply(retrying(three, func(r *plan.Rule, _ *plan.Policy) { tc.change(&r.Retry) }))
			x, err := b.proxy.Explain(proxy.Query{Method: "GET", URL: "http://shop.example.com/"})
			if want := append(tc.want, budget); err != nil || !slices.Equal(x.Retry, want) {
				t.Errorf("%s: %q, want %q (%v)", name, x.Retry, want, err)
			}
		})
	}
}
