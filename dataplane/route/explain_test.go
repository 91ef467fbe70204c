package route

import (
	"encoding/json"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestExplainNamesTheStepThatDecided(t *testing.T) {
	const host = "shop.test"
	winner := func(m plan.Match) Entry[string] { return entry("winner", host, m) }
	for _, c := range []struct {
		want          string
		winner, other Entry[string]
	}{
		{"host", winner(prefix("/")), entry("other", "*.test", prefix("/a"))},
		{"host", winner(prefix("/")), entry("other", "*", prefix("/a"))},
		{"host", entry("winner", "*.test", prefix("/")), entry("other", "*", exact("/a/b"))},
		{"path type", winner(exact("/a/b")), entry("other", host, prefix("/a/b"))},
		{"path type", winner(prefix("/")), entry("other", host, regex("/a/b"))},
		{"path length", winner(prefix("/a/b")), entry("other", host, withMethod(prefix("/a"), "GET"))},
		{"method", winner(withMethod(prefix("/a"), "GET")), entry("other", host, withHeader(prefix("/a"), "x", "1"))},
		{"method", winner(withMethod(regex("/a/b"), "GET")), entry("other", host, regex(".*"))},
		{"headers", winner(withHeader(prefix("/a"), "x", "1")), entry("other", host, withQuery(prefix("/a"), "v", "1"))},
		{"query", winner(withQuery(prefix("/a"), "v", "1")), entry("other", host, prefix("/a"))},
		{"order", winner(prefix("/a")), entry("other", host, prefix("/a"))},
		{"only match", winner(prefix("/a")), entry("other", host, exact("/a"))},
		{"only match", winner(prefix("/a")), entry("winner", host, prefix("/"))},
		{"only match", winner(prefix("/a")), entry("other", "other.test", prefix("/a"))},
	} {
		table := build(t, c.winner, c.other)
		x := table.Explain(request("GET shop.test/a/b?v=1", fields{"x": "1"}))
		if x.Winner == nil || x.Winner.Value != "winner" || x.DecidedBy != c.want {
			t.Errorf("%+v over %+v: %+v by %q; want %q", c.winner, c.other, x.Winner, x.DecidedBy, c.want)
		}
	}
}

func TestExplainSaysWhichConditionFailed(t *testing.T) {
	r := request("GET shop.test/ap?v=1+2&w", fields{"x-canary": "no"})
	for want, m := range map[string]plan.Match{
		"": prefix("/"),
		"path: PathPrefix /api does not match /ap":       prefix("/api"),
		"path: Exact / does not match /ap":               exact("/"),
		"path: RegularExpression /a does not match /ap":  regex("/a"),
		"method: GET is not POST":                        withMethod(prefix("/"), "POST"),
		`header x-canary: "no" is not "yes"`:             withHeader(prefix("/"), "x-canary", "yes"),
		`header x-canary: "no" does not match n`:         withHeader(prefix("/"), "x-canary", "~n"),
		"header y: is absent":                            withHeader(prefix("/"), "y", ""),
		`query parameter v: "1 2" is not "1"`:            withQuery(prefix("/"), "v", "1"),
		`query parameter v: "1 2" does not match [0-9]+`: withQuery(prefix("/"), "v", "~[0-9]+"),
		`query parameter w: "" is not "1"`:               withQuery(prefix("/"), "w", "1"),
		"query parameter z: is absent":                   withQuery(prefix("/"), "z", "~.*"),
	} {
		x := build(t, entry("rule", "shop.test", m)).Explain(r)
		if len(x.Candidates) != 1 || x.Candidates[0].Failed != want || x.Candidates[0].Matched != (want == "") {
			t.Errorf("%+v; want %q", x.Candidates, want)
		}
		if (x.Winner != nil) != (want == "") || (x.DecidedBy != "") != (want == "") {
			t.Errorf("%q: winner %+v by %q", want, x.Winner, x.DecidedBy)
		}
	}
}

func TestExplainListsCandidatesInOrderOfPrecedence(t *testing.T) {
	table := build(t,
		entry("any", "*", prefix("/")),
		entry("elsewhere", "other.test *.other.test", prefix("/")),
		entry("shop", "shop.test *.test shop.test", regex("/.*"), withMethod(prefix("/a"), "POST"), exact("/b")),
		entry("nothing", "shop.test"))
	r := request("GET shop.test/a", nil)
	got, err := json.MarshalIndent(table.Explain(r), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
	"candidates": [
		{
			"value": "shop",
			"hostname": "shop.test",
			"match": "Exact /b",
			"matched": false,
			"failed": "path: Exact /b does not match /a"
		},
		{
			"value": "shop",
			"hostname": "shop.test",
			"match": "PathPrefix /a, method POST",
			"matched": false,
			"failed": "method: GET is not POST"
		},
		{
			"value": "shop",
			"hostname": "shop.test",
			"match": "RegularExpression /.*",
			"matched": true
		},
		{
			"value": "shop",
			"hostname": "*.test",
			"match": "Exact /b",
			"matched": false,
			"failed": "path: Exact /b does not match /a"
		},
		{
			"value": "shop",
			"hostname": "*.test",
			"match": "PathPrefix /a, method POST",
			"matched": false,
			"failed": "method: GET is not POST"
		},
		{
			"value": "shop",
			"hostname": "*.test",
			"match": "RegularExpression /.*",
			"matched": true
		},
		{
			"value": "any",
			"hostname": "*",
			"match": "PathPrefix /",
			"matched": true
		}
	],
	"winner": {
		"value": "shop",
		"hostname": "shop.test",
		"match": "RegularExpression /.*",
		"matched": true
	},
	"decidedBy": "host",
	"otherHosts": 2
}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	x := build(t, entry("r", "*", withQuery(withHeader(prefix("/"), "x", "~[a]"), "v", "1 2"))).Explain(r)
	if got, want := x.Candidates[0].Match, `PathPrefix /, header x ~ [a], query parameter v = "1 2"`; got != want {
		t.Errorf("Match is %q; want %q", got, want)
	}
}
