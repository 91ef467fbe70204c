package plan

import (
	"net/netip"
	"time"
)

// Plan is everything that the data plane should serve.
//
// Two plans may share Routes: a *Route that is the same pointer as in the plan
// before is taken as unchanged, so a builder that keeps the pointers of
// unchanged routes makes the cost of a change the cost of what changed.
type Plan struct {
	// Routes in their order of precedence among equals: of two rules that match
	// a request equally well, the one of the earlier route takes it.
	Routes []*Route
	// Pools that the routes' legs name, each key once, in any order.
	Pools []Pool
}

// Route is a set of rules under a set of hostnames. It is immutable.
type Route struct {
	Namespace, Name string
	// Hostnames in lower case: exact, "*.example.com", or "*" for every host.
	Hostnames []string
	// Rules in the order of the user.
	Rules []Rule
}

// Rule sends the requests that one of its matches takes to one of its legs.
type Rule struct {
	// Name is unique in the route.
	Name string
	// Matches, of which one suffices. None: the rule takes nothing.
	Matches []Match
	// Legs share the requests by weight. A leg with weight 0 gets none.
	Legs []Leg
	// Timeouts of an exchange.
	Timeouts Timeouts
	// Limits of an exchange.
	Limits Limits
	// Invalid, when not empty, says why the rule could not be compiled: its
	// requests are answered with 500 rather than taken by a less specific rule.
	Invalid string
}

// Match is met when all of its conditions are.
type Match struct {
	Path    PathMatch
	Method  string // "" = every method
	Headers []ValueMatch
	Query   []ValueMatch
}

// PathType says how a path is compared.
type PathType uint8

// The path types, in order of precedence.
const (
	PathExact  PathType = iota + 1 // the whole path
	PathPrefix                     // by segment: /a matches /a and /a/b, not /ab
	PathRegex                      // RE2 against the whole path
)

// PathMatch is a condition on the canonical path. A prefix has no trailing
// slash unless it is "/".
type PathMatch struct {
	Type  PathType
	Value string
}

// ValueMatch is a condition on a header (Name in lower case) or on a query
// parameter (Name compared exactly).
type ValueMatch struct {
	Name  string
	Value string
	Regex bool // Value is an RE2 expression for the whole value
}

// Leg is one backend of a rule.
type Leg struct {
	Weight uint32
	Pool   PoolKey
	// Invalid, when not empty, says why the reference does not resolve: the
	// leg's share of the requests is answered with 500, as Gateway API asks,
	// and Pool is not in the plan.
	Invalid string
}

// Timeouts of a rule; 0 = none.
type Timeouts struct {
	Request        time.Duration
	Connect        time.Duration
	ResponseHeader time.Duration
}

// Limits of a rule; 0 = none.
type Limits struct {
	MaxRequestBodyBytes int64
}

// PoolKey identifies a pool: the endpoints of a Service port under one policy.
// It is comparable; rules whose keys are equal share the pool, its connections
// and its counters.
type PoolKey struct {
	Namespace, Service string
	Port               uint16 // the port of the Service, not of its endpoints
	Policy             Policy
}

// Policy is how to talk to the endpoints of a pool. It is comparable.
type Policy struct {
	Balancer Balancer
}

// Balancer names the algorithm that picks an endpoint.
type Balancer uint8

// The balancers.
const (
	LeastRequest Balancer = iota // power of two choices over requests in flight
	RoundRobin                   // in turn
)

// Pool is the members of a pool.
type Pool struct {
	Key       PoolKey
	Endpoints []Endpoint // each address once
}

// Endpoint is a member of a pool.
type Endpoint struct {
	Addr  netip.AddrPort
	State EndpointState
}

// EndpointState is what Kubernetes says of an endpoint.
type EndpointState uint8

// The endpoint states.
const (
	// Ready endpoints take new requests.
	Ready EndpointState = iota
	// Draining endpoints are serving and terminating: they finish what they
	// have, and take new requests only when no endpoint of the pool is ready.
	Draining
	// NotReady endpoints take nothing; they are known so that it can be said
	// why.
	NotReady
)

// String returns the state's word in logs and debug output.
func (s EndpointState) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	default:
		return "not-ready"
	}
}

// String returns the balancer's name as in the API.
func (b Balancer) String() string {
	if b == RoundRobin {
		return "RoundRobin"
	}
	return "LeastRequest"
}
