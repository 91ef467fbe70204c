package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// Explain says what would happen to a request now, and why, without sending
// anything. The request goes through the parser that reads requests from the
// wire. An error means that the query itself makes no sense.
func (p *Proxy) Explain(q Query) (Explanation, error) {
	head, err := q.head()
	if err != nil {
		return Explanation{}, err
	}
	var req http1.Request
	if _, err := http1.ParseRequest(head, &p.settings.Load().heads, &req); err != nil {
		var bad *http1.Error
		if !errors.As(err, &bad) {
			return Explanation{}, err
		}
		return Explanation{Outcome: refusal(bad.Status).String(), Status: bad.Status, Detail: bad.Error()}, nil
	}
	x := Explanation{Host: string(req.Host), Path: string(req.Path)}
	t := p.table.Load()
	if t == nil {
		x.outcome(ReasonNoTable, "")
		return x, nil
	}
	x.match(p, t, &req)
	return x, nil
}

// head writes the query as a request head.
func (q Query) head() ([]byte, error) {
	host, target := q.Host, q.URL
	if u, err := url.Parse(q.URL); err != nil {
		return nil, err
	} else if u.IsAbs() {
		if host == "" {
			host = u.Host
		}
		_, rest, _ := strings.Cut(q.URL, "://")
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			target, _, _ = strings.Cut(rest[i:], "#") // never sent to a server
		} else {
			target = "/"
		}
		if strings.HasPrefix(target, "?") {
			target = "/" + target
		}
	}
	if host == "" {
		return nil, errors.New(`explain: no host: give an absolute URL ("http://shop.example.com/cart") or a host`)
	}
	b := http1.AppendRequestLine(nil, []byte(q.Method), []byte(target))
	b = http1.AppendField(b, "Host", host)
	for _, f := range q.Headers {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	return append(b, "\r\n"...), nil
}

func (x *Explanation) outcome(r Reason, detail string) {
	x.Outcome, x.Detail, x.Status = r.String(), detail, r.Status()
}

// match tells of the routing decision, and of the winner's backends.
func (x *Explanation) match(p *Proxy, t *Table, req *http1.Request) {
	e := t.routes.Explain(&route.Request{Host: req.Host, Path: req.Path, RawQuery: req.Query, Method: req.Method, Headers: req})
	for i := range e.Candidates {
		x.Candidates = append(x.Candidates, explainRule(&e.Candidates[i]))
	}
	if e.Winner == nil {
		x.outcome(ReasonNoRoute, "")
		return
	}
	w := explainRule(e.Winner)
	x.Winner, x.DecidedBy = &w, e.DecidedBy
	r := e.Winner.Value
	if r.invalid != "" {
		x.outcome(ReasonRuleInvalid, r.invalid)
		return
	}
	x.Limits, x.Retry = r.limitWords(p), r.retryWords()
	x.legs(r)
}

// limitWords tells of the rule's limits, in the order in which requests meet them.
func (r *rule) limitWords(p *Proxy) (words []string) {
	for i := range r.rates {
		l := &r.rates[i]
		by := l.Key.Source.String()
		if l.Key.Name != "" {
			by += " " + l.Key.Name
		}
		dry := ""
		if l.DryRun {
			dry = "; dry run"
		}
		words = append(words, fmt.Sprintf("RateLimit by %s: %d per %s, burst %d%s%s", by, l.Requests, l.Period, l.Burst, p.sharing(l), dry))
	}
	if r.inFlight != nil {
		words = append(words, fmt.Sprintf("maxInFlight: %d, of which %d are under way", r.limits.MaxInFlight, r.inFlight.Load()))
	}
	for i := range r.legs {
		if l := &r.legs[i]; l.pool != nil && l.pool.Breaker != nil {
			b := l.pool.Breaker
			words = append(words, fmt.Sprintf("circuitBreaker of %s/%s:%d: %d requests under way of %d, %d wait",
				l.key.Namespace, l.key.Service, l.key.Port, b.Inside(), b.Limit(), b.Waiting()))
		}
	}
	return words
}

// sharing tells how a limit that is for all replicas is kept among them.
func (p *Proxy) sharing(l *rateLimit) string {
	switch {
	case !l.Cluster:
		return ""
	case p.shared != nil && p.shared.Up():
		return ", counted by all replicas together"
	case p.shared == nil && p.Replicas() == 1:
		return ", for all replicas together"
	case p.shared == nil:
		return fmt.Sprintf(", divided among %d replicas", p.Replicas())
	}
	return fmt.Sprintf(", divided among %d replicas: what counts for all of them cannot be reached", p.Replicas())
}

func explainRule(c *route.Candidate[*rule]) ExplainedRule {
	id := c.Value.id
	return ExplainedRule{
		Namespace: id.Namespace, Route: id.Route, Rule: id.Rule,
		Hostname: c.Hostname, Match: c.Match, Matched: c.Matched, Failed: c.Failed,
	}
}

// legs tells of the backends. The outcome is ok when at least one of them can
// take the request: which one is drawn by weight.
func (x *Explanation) legs(r *rule) {
	best, detail := ReasonNoEndpoints, "no backend of the rule has an endpoint that takes requests"
	invalid, resolves := "", false
	for i := range r.legs {
		l := &r.legs[i]
		el := ExplainedLeg{
			Namespace: l.key.Namespace, Service: l.key.Service, Port: l.key.Port,
			Weight: uint32(l.weight), Invalid: l.invalid,
		}
		if l.pool != nil {
			el.Balancer = l.key.Policy.LoadBalancing.Balancer.String()
			el.Endpoints, el.Panic = ExplainPool(l.pool), l.pool.Panic()
		}
		x.Legs = append(x.Legs, el)
		for _, ep := range el.Endpoints {
			if ep.Eligible && l.weight > 0 {
				best, detail = ReasonOK, ""
			}
		}
		if l.weight > 0 {
			invalid, resolves = cmp.Or(invalid, l.invalid), resolves || l.invalid == ""
		}
	}
	if !resolves {
		best, detail = ReasonBackendUnresolved, invalid
	}
	x.outcome(best, detail)
}

// ExplainPool tells of each endpoint of a pool what is known of it, and whether
// it could serve now.
func ExplainPool(p *upstream.Pool) []ExplainedEndpoint {
	now := time.Now()
	all := p.Endpoints()
	out := make([]ExplainedEndpoint, 0, len(all))
	for _, e := range all {
		v := p.View(e, now)
		x := ExplainedEndpoint{
			Address: e.Addr.String(), State: v.State, Since: v.Since, Reason: v.Why, Until: v.Until, Share: v.Share,
			Far: e.Far(), Eligible: p.Eligible(e, now), InFlight: e.InFlight(), Idle: e.Idle(),
		}
		if x.Reason == "" {
			x.Since = time.Time{} // when it was made is of no interest
		}
		x.Why = explainState(&x, p.Panic())
		out = append(out, x)
	}
	return out
}

// explainState says why an endpoint is not eligible, or why one is that is not
// serving.
func explainState(x *ExplainedEndpoint, panics bool) string {
	switch {
	case x.Eligible && x.State == "serving":
		return ""
	case x.Eligible && x.State == "draining":
		return "it is terminating, and no endpoint is ready"
	case x.Eligible && panics:
		return "too few endpoints are healthy, so all that are ready are used: " + x.Reason
	case x.Eligible:
		return "its ejection is over: the next request tries it"
	}
	switch x.State {
	case "serving":
		return "topology hints give it to others, and a close endpoint can serve"
	case "ejected":
		return x.Reason + "; a request tries it at " + x.Until.UTC().Format(time.TimeOnly) + " UTC"
	case "probing":
		return "one request tries it: the others wait for how that ends"
	case "unhealthy":
		return x.Reason
	case "draining":
		return "it is terminating and other endpoints are ready: it finishes what it has and keeps its sessions"
	default:
		return "its EndpointSlice says that it is neither ready nor serving"
	}
}
