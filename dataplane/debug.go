package dataplane

import (
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// Explain says what would happen to a request now, and why. A query that makes
// no sense is explained as the malformed request it is.
func (e *Engine) Explain(q proxy.Query) proxy.Explanation {
	x, err := e.proxy.Explain(q)
	if err != nil {
		r := proxy.ReasonMalformedRequest
		return proxy.Explanation{Outcome: r.String(), Status: r.Status(), Detail: err.Error()}
	}
	return x
}

// RouteInfo is a route of the table in use, for /debug/routes.
type RouteInfo struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Hostnames []string   `json:"hostnames"`
	Rules     []RuleInfo `json:"rules"`
}

// RuleInfo is a rule of a RouteInfo.
type RuleInfo struct {
	Name    string       `json:"name"`
	Matches []plan.Match `json:"matches"`
	Legs    []plan.Leg   `json:"backends"`
	Invalid string       `json:"invalid,omitempty"`
}

// Routes returns the routes of the table in use, in their order of precedence
// among equals, as []RouteInfo.
func (e *Engine) Routes() any {
	infos := []RouteInfo{}
	t := e.proxy.Table()
	if t == nil {
		return infos
	}
	for _, r := range t.Plan().Routes {
		info := RouteInfo{Namespace: r.Namespace, Name: r.Name, Hostnames: r.Hostnames}
		for _, rule := range r.Rules {
			info.Rules = append(info.Rules, RuleInfo{rule.Name, rule.Matches, rule.Legs, rule.Invalid})
		}
		infos = append(infos, info)
	}
	return infos
}

// PoolInfo is a living pool, for /debug/endpoints.
type PoolInfo struct {
	Namespace string                    `json:"namespace"`
	Service   string                    `json:"service"`
	Port      uint16                    `json:"port"`
	Balancer  string                    `json:"balancer"`
	Panic     bool                      `json:"panic"`
	Endpoints []proxy.ExplainedEndpoint `json:"endpoints"`
}

// Endpoints returns the pools of the plan in force and their endpoints, as
// []PoolInfo in the order of the plan.
func (e *Engine) Endpoints() any {
	infos := []PoolInfo{}
	t := e.proxy.Table()
	if t == nil {
		return infos
	}
	for _, wanted := range t.Plan().Pools {
		p := e.registry.Pool(wanted.Key)
		if p == nil {
			continue // the next plan is coming into force
		}
		infos = append(infos, PoolInfo{
			Namespace: p.Key.Namespace, Service: p.Key.Service, Port: p.Key.Port,
			Balancer: p.Key.Policy.LoadBalancing.Balancer.String(), Panic: p.Panic(), Endpoints: proxy.ExplainPool(p),
		})
	}
	return infos
}
