package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

func TestExplanationReadsAsText(t *testing.T) {
	api := proxy.ExplainedRule{Namespace: "shop", Route: "shop", Rule: "api", Hostname: "shop.example.com", Match: "PathPrefix /api", Matched: true}
	web := proxy.ExplainedRule{Namespace: "shop", Route: "shop", Rule: "web", Hostname: "shop.example.com", Match: "PathPrefix /", Matched: true}
	beta := proxy.ExplainedRule{Namespace: "shop", Route: "shop", Rule: "api-beta", Hostname: "shop.example.com",
		Match: `PathPrefix /api, header x-canary = "1"`, Failed: "header x-canary: is absent"}
	apiAgain := api
	apiAgain.Match = "PathPrefix /a"

	for _, tc := range []struct {
		name string
		q    proxy.Query
		e    proxy.Explanation
		want string
	}{
		{
			name: "a rule takes it",
			q:    proxy.Query{Method: "GET", URL: "http://shop.example.com/x/../api"},
			e: proxy.Explanation{
				Host: "shop.example.com", Path: "/api", Outcome: "ok", Winner: &api, DecidedBy: "path length",
				Candidates: []proxy.ExplainedRule{beta, api, apiAgain, web},
				Limits:     []string{"RateLimit by ClientIP: 5 per 1s, burst 5", "maxInFlight: 10, of which 3 are under way"},
				Retry:      []string{"only what no endpoint has processed", "budget of shop/api:80: 20% of the requests of 10s, and 10 per 1s"},
				Legs: []proxy.ExplainedLeg{
					{Namespace: "shop", Service: "api", Port: 80, Weight: 90, Balancer: "LeastRequest", Endpoints: []proxy.ExplainedEndpoint{
						{Address: "10.0.0.1:8080", State: "serving", Eligible: true, Share: 100, InFlight: 3, Idle: 1},
						{Address: "10.0.0.2:8080", State: "draining", Why: "it is terminating"},
						{Address: "10.0.0.3:8080", State: "ejected", Why: "5 requests failed", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
						{Address: "10.0.0.4:8080", State: "serving", Eligible: true, Share: 40},
					}},
					{Namespace: "shop", Service: "old", Port: 80, Weight: 10, Invalid: "Service shop/old does not exist"},
					{Namespace: "shop", Service: "empty", Port: 81, Balancer: "RoundRobin"},
				},
			},
			want: `
request     GET http://shop.example.com/x/../api
matched as  shop.example.com/api
taken by    shop/shop rule "api": PathPrefix /api on shop.example.com
decided by  path length, before shop/shop rule "web": PathPrefix / on shop.example.com
limits      RateLimit by ClientIP: 5 per 1s, burst 5
            maxInFlight: 10, of which 3 are under way
retry       only what no endpoint has processed
            budget of shop/api:80: 20% of the requests of 10s, and 10 per 1s
outcome     ok: a backend answers

candidates, best first
  shop/shop  api-beta  shop.example.com  PathPrefix /api, header x-canary = "1"  header x-canary: is absent
  shop/shop  api       shop.example.com  PathPrefix /api                         matches
  shop/shop  api       shop.example.com  PathPrefix /a                           matches
  shop/shop  web       shop.example.com  PathPrefix /                            matches

backends
  shop/api:80      90% of requests  LeastRequest
    10.0.0.1:8080  serving          can serve; 3 in flight, 1 idle connections
    10.0.0.2:8080  draining         cannot serve: it is terminating
    10.0.0.3:8080  ejected          cannot serve: 5 requests failed; ejected since 2026-01-02 03:04:05 UTC
    10.0.0.4:8080  serving          can serve; 0 in flight, 0 idle connections, starts slowly: 40% of its share
  shop/old:80      10% of requests  does not resolve: Service shop/old does not exist
  shop/empty:81    0% of requests   RoundRobin, no endpoints
`,
		},
		{
			name: "no rule takes it",
			q:    proxy.Query{Method: "GET", URL: "http://other/"},
			e:    proxy.Explanation{Host: "other", Path: "/", Outcome: "no_route", Status: 404},
			want: `
request     GET http://other/
matched as  other/
taken by    no rule
outcome     no_route: the proxy answers 404
`,
		},
		{
			name: "it is no request",
			q:    proxy.Query{Method: "GET", URL: "http://other/.."},
			e:    proxy.Explanation{Outcome: "malformed_request", Status: 400, Detail: "'..' in path climbs above the root"},
			want: `
request   GET http://other/..
taken by  no rule
outcome   malformed_request: the proxy answers 400 ('..' in path climbs above the root)
`,
		},
		{
			name: "what a terminal would obey is shown",
			q:    proxy.Query{Method: "GET", URL: "http://a/"},
			e:    proxy.Explanation{Outcome: "rule_invalid", Status: 500, Detail: "a\x1b[2J\u202eb\tc\nd"},
			want: `
request   GET http://a/
taken by  no rule
outcome   rule_invalid: the proxy answers 500 (a\x1b[2J\u202eb\tc\nd)
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got strings.Builder
			if err := writeExplanation(&got, tc.q, tc.e); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), got.String()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestLongListsOfCandidatesAreCut(t *testing.T) {
	e := proxy.Explanation{Candidates: make([]proxy.ExplainedRule, shownCandidates+7)}
	var got strings.Builder
	if err := writeExplanation(&got, proxy.Query{}, e); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.String(), "and 7 more") {
		t.Error(got.String())
	}
}
