package dataplane

import (
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
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

// Served returns the generation that is served of the route of each UID, in the
// same order; 0: nothing is.
func (e *Engine) Served(uids []string) []int64 {
	generations := make([]int64, len(uids))
	t := e.proxy.Table()
	if t == nil {
		return generations
	}
	routes := t.Plan().Routes
	byUID := make(map[string]int64, len(routes))
	for _, r := range routes {
		if r.UID != "" {
			byUID[r.UID] = r.Generation
		}
	}
	for i, uid := range uids {
		generations[i] = byUID[uid]
	}
	return generations
}

// RouteInfo is a route of the table in use, for /debug/routes.
type RouteInfo struct {
	Namespace  string     `json:"namespace"`
	Name       string     `json:"name"`
	UID        string     `json:"uid,omitempty"`
	Generation int64      `json:"generation,omitempty"`
	Hostnames  []string   `json:"hostnames"`
	Rules      []RuleInfo `json:"rules"`
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
		info := RouteInfo{Namespace: r.Namespace, Name: r.Name, UID: r.UID, Generation: r.Generation, Hostnames: r.Hostnames}
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
	Breaker   *BreakerInfo              `json:"circuitBreaker,omitempty"`
	Endpoints []proxy.ExplainedEndpoint `json:"endpoints"`
}

// BreakerInfo is what a pool is asked to do at the moment, and may be: see
// plan.CircuitBreaker. Bounds that are left out are none.
type BreakerInfo struct {
	Requests         uint32 `json:"requests"`
	RequestLimit     uint32 `json:"requestLimit,omitempty"` // the lowest of all bounds at the moment
	AdaptiveLimit    uint32 `json:"adaptiveLimit,omitempty"`
	PerEndpointLimit uint32 `json:"perEndpointLimit,omitempty"`
	Pending          uint32 `json:"pending"`
	PendingLimit     uint32 `json:"pendingLimit"`
	Connections      int64  `json:"connections"`
	ConnectionLimit  uint32 `json:"connectionLimit,omitempty"`
}

func breakerInfo(b *limit.Breaker) *BreakerInfo {
	if b == nil {
		return nil
	}
	p := b.Policy()
	return &BreakerInfo{
		Requests: b.Inside(), RequestLimit: b.Limit(), AdaptiveLimit: b.Adaptive(), PerEndpointLimit: p.EndpointMaxParallelRequests,
		Pending: b.Waiting(), PendingLimit: p.MaxPendingRequests, Connections: b.Connections.Load(), ConnectionLimit: p.MaxConnections,
	}
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
			Balancer: p.Key.Policy.LoadBalancing.Balancer.String(), Panic: p.Panic(), Breaker: breakerInfo(p.Breaker), Endpoints: proxy.ExplainPool(p),
		})
	}
	return infos
}
