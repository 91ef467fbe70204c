package proxy

import "time"

// Query is a request to be explained instead of served.
type Query struct {
	Method string `json:"method"`
	// URL is absolute ("http://shop.example.com/api?v=2") or origin-form with
	// the host in Host.
	URL  string `json:"url"`
	Host string `json:"host,omitempty"`
	// Headers in the order given.
	Headers []HeaderField `json:"headers,omitempty"`
}

// HeaderField is one header field of a Query.
type HeaderField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Explanation says what would happen to a request, and why.
type Explanation struct {
	// Host and Path are the request's in canonical form, as they are matched.
	Host string `json:"host"`
	Path string `json:"path"`
	// Outcome is the reason the request would end with before any endpoint is
	// asked: "ok" when an endpoint can be picked.
	Outcome string `json:"outcome"`
	// Status is what the proxy would answer by itself; 0 when a backend would
	// answer.
	Status int `json:"status,omitempty"`
	// Detail says more about Outcome.
	Detail string `json:"detail,omitempty"`

	// Winner is the rule that takes the request; nil when none does.
	Winner *ExplainedRule `json:"winner,omitempty"`
	// DecidedBy is the step of the precedence that put the winner before the
	// next best match: "only match", "host", "path type", "path length",
	// "method", "headers", "query" or "order".
	DecidedBy string `json:"decidedBy,omitempty"`
	// Candidates are all matches whose hostname fits, best first.
	Candidates []ExplainedRule `json:"candidates,omitempty"`
	// Limits are those of the winner that a request may meet, in words.
	Limits []string `json:"limits,omitempty"`
	// Retry is what of the winner's requests is tried again, and the budgets that
	// pay for it, in words.
	Retry []string `json:"retry,omitempty"`
	// Legs are the winner's backends.
	Legs []ExplainedLeg `json:"legs,omitempty"`
}

// ExplainedRule is a match of a rule and whether it takes the request.
type ExplainedRule struct {
	Namespace string `json:"namespace"`
	Route     string `json:"route"`
	Rule      string `json:"rule"`
	Hostname  string `json:"hostname"`
	Match     string `json:"match"`
	Matched   bool   `json:"matched"`
	// Failed says which condition was not met; "" when Matched.
	Failed string `json:"failed,omitempty"`
}

// ExplainedLeg is a backend of the winner.
type ExplainedLeg struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      uint16 `json:"port"`
	Weight    uint32 `json:"weight"`
	Balancer  string `json:"balancer,omitempty"`
	// Panic: too few endpoints are healthy, so all that are ready take requests.
	Panic bool `json:"panic,omitempty"`
	// Invalid says why the reference does not resolve; "" when it does.
	Invalid   string              `json:"invalid,omitempty"`
	Endpoints []ExplainedEndpoint `json:"endpoints,omitempty"`
}

// ExplainedEndpoint is a member of a pool.
type ExplainedEndpoint struct {
	Address string `json:"address"`
	// State is "serving", "ejected" (it has failed requests), "probing" (one
	// request tries whether it can return), "unhealthy" (its active checks
	// fail), "draining" (it is terminating) or "not-ready".
	State string `json:"state"`
	// Since is when it came into the state of its health, and Reason what
	// brought it there; "" when nothing has happened to it.
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// Until is when the ejection of an ejected one ends with one trial request.
	Until time.Time `json:"until,omitzero"`
	// Share is its part of an even share in percent: below 100 while it starts
	// slowly.
	Share int `json:"sharePercent"`
	// Far: topology hints give it to other zones or nodes.
	Far bool `json:"far,omitempty"`
	// Eligible: a request could be sent to it now.
	Eligible bool `json:"eligible"`
	// Why it is not eligible, or why it is although something speaks against
	// it; else "".
	Why      string `json:"why,omitempty"`
	InFlight int64  `json:"inFlight"`
	Idle     int    `json:"idleConnections"`
}
