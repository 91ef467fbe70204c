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
	// UID and Generation say which version of which object the route is made
	// of; "" and 0: of none that has any.
	UID        string
	Generation int64 // 0: it is of more than one, or not known
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
	// Filters that a request goes through, in order.
	Filters []Filter
	// Legs share the requests by weight. A leg with weight 0 gets none.
	Legs []Leg
	// Timeouts of an exchange.
	Timeouts Timeouts
	// Limits of an exchange.
	Limits Limits
	// Retry says which failed requests are tried again.
	Retry Retry
	// Rebalance: legs without an endpoint leave their share to the others;
	// else it is answered with 503, as Gateway API asks.
	Rebalance bool
	// Session keeps the requests of a client at one endpoint.
	Session Session
	// Invalid, when not empty, says why the rule could not be compiled: its
	// requests are answered with 500 rather than taken by a less specific rule.
	Invalid string
}

// Session is session persistence by a cookie that names an endpoint. The zero
// value is none.
type Session struct {
	// Cookie is the name of the cookie; "" = no session persistence.
	Cookie string
	// Lifetime of a session, whatever happens in it; 0 = as long as the client
	// keeps the cookie, which then ends with the client's own session.
	Lifetime time.Duration
	// Key seals the cookie's value: the same in all replicas, unknown to
	// clients.
	Key [32]byte
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
	// Request bounds the whole exchange, from the first byte of the request to
	// the last byte of the response, retries and waits included.
	Request time.Duration
	// BackendRequest bounds one attempt, from the pick of its endpoint to the last
	// byte of its response.
	BackendRequest time.Duration
	// Connect bounds the establishment of a connection.
	Connect time.Duration
	// ResponseHeader is from the request sent to the response's header read.
	ResponseHeader time.Duration
	// RequestBodyIdle and ResponseBodyIdle bound the time between two reads of a
	// body.
	RequestBodyIdle, ResponseBodyIdle time.Duration
	// StreamIdle stands for those two in upgraded connections, gRPC and
	// text/event-stream, where it counts for both directions together.
	StreamIdle time.Duration
}

// Limits of a rule; 0 = none.
type Limits struct {
	MaxRequestBodyBytes, MaxResponseBodyBytes int64
	// MinRequestBodyRate is in bytes per second, on average since the body
	// began.
	MinRequestBodyRate int64
	// MaxInFlight requests of the rule may be under way at a time.
	MaxInFlight uint32
}

// PoolKey identifies a pool: the endpoints of a Service port under one policy.
// It is comparable; rules whose keys are equal share the pool, its connections,
// its probes and all that is known of its endpoints.
type PoolKey struct {
	Namespace, Service string
	Port               uint16 // the port of the Service, not of its endpoints
	Policy             Policy
}

// Policy is how to talk to the endpoints of a pool. It is comparable.
type Policy struct {
	LoadBalancing LoadBalancing
	Active        ActiveCheck
	Passive       PassiveCheck
	// PanicThresholdPercent: with a smaller share of usable endpoints than this,
	// requests go to all that Kubernetes calls ready. 0: never.
	PanicThresholdPercent uint8
	Connection            Connection
	// Breaker bounds what the pool is asked to do at a time.
	Breaker CircuitBreaker
	// DrainTimeout is how long upgraded connections to an endpoint may go on
	// once it is terminating or gone; 0 = no limit. Requests are bounded by
	// their own timeouts.
	DrainTimeout time.Duration
	// RetryBudget bounds the retries that may reach an endpoint's application.
	RetryBudget RetryBudget
}

// LoadBalancing says how an endpoint is picked.
type LoadBalancing struct {
	Balancer Balancer
	// Hash is what ConsistentHash takes the key from; else the zero value.
	Hash HashKey
	// SlowStart is the time in which an endpoint that joined or recovered comes
	// up to its full share; 0 = at once.
	SlowStart time.Duration
	// SlowStartMinPercent is the share that it begins with, 1 to 100.
	SlowStartMinPercent uint8
	// PreferClose: endpoints that are Far get nothing while one that is not can
	// take requests.
	PreferClose bool
}

// Balancer names the algorithm that picks an endpoint.
type Balancer uint8

// The balancers.
const (
	LeastRequest   Balancer = iota // power of two choices over requests in flight
	RoundRobin                     // smooth weighted round robin
	PeakEWMA                       // power of two choices over latency and load
	ConsistentHash                 // by a key of the request, with bounded load
	Random                         // at random
	FirstHealthy                   // always the first in order of address
)

// String returns the balancer's name as in the API.
func (b Balancer) String() string {
	return [...]string{"LeastRequest", "RoundRobin", "PeakEWMA", "ConsistentHash", "Random", "FirstHealthy"}[b]
}

// HashSource says what a key of ConsistentHash is.
type HashSource uint8

// The sources of keys.
const (
	HashSourceIP   HashSource = iota // the client's address
	HashHeader                       // a header field (Name in lower case)
	HashCookie                       // a cookie
	HashQueryParam                   // a query parameter
)

// HashKey is where ConsistentHash takes its key from. A request without it is
// balanced at random.
type HashKey struct {
	Source HashSource
	Name   string
}

// CheckType is the kind of an active check.
type CheckType uint8

// The kinds of active checks.
const (
	CheckNone CheckType = iota // no active checks
	CheckHTTP                  // a request and the status of its response
	CheckTCP                   // a connection is established
	CheckGRPC                  // grpc.health.v1.Health/Check says SERVING
)

// ActiveCheck asks each endpoint of a pool time and again how it is.
type ActiveCheck struct {
	Type CheckType
	// Interval between the starts of two checks of an endpoint, which is drawn
	// anew each time from Interval +- JitterPercent; Timeout of one.
	Interval, Timeout time.Duration
	JitterPercent     uint8
	// UnhealthyThreshold failures in a row make an endpoint unhealthy,
	// HealthyThreshold successes in a row make it healthy again.
	UnhealthyThreshold, HealthyThreshold uint16
	// Port to connect to; 0: that of the endpoint.
	Port uint16
	// Path, Host and Method of CheckHTTP. Host "": the endpoint's address.
	Path, Host, Method string
	// Expected are the statuses of CheckHTTP that are good.
	Expected StatusSet
	// Service that CheckGRPC asks for; "": the server as a whole.
	Service string
}

// PassiveCheck judges an endpoint by the outcomes of requests.
type PassiveCheck struct {
	// ConsecutiveFailures eject an endpoint; 0 = off.
	ConsecutiveFailures uint16
	// Statuses of responses that count as failures, beside connect failures,
	// resets and timeouts before the response header.
	Statuses StatusSet
	// FailurePercent of the requests of FailureWindow, if these are at least
	// FailureMinRequests, eject an endpoint; 0 = off.
	FailurePercent     uint8
	FailureMinRequests uint32
	FailureWindow      time.Duration
	// BaseEjection is the time of a first ejection. It doubles with each one in
	// a row, up to MaxEjection.
	BaseEjection, MaxEjection time.Duration
	// MaxEjectedPercent of the pool's endpoints may be ejected at a time; at
	// least one when there are two or more, and never the last one.
	MaxEjectedPercent uint8
}

// On reports whether anything is judged.
func (c PassiveCheck) On() bool { return c.ConsecutiveFailures > 0 || c.FailurePercent > 0 }

// Connection bounds the connections that are kept to an endpoint for reuse.
type Connection struct {
	MaxIdlePerEndpoint uint32        // 0 = none is kept
	IdleTimeout        time.Duration // 0 = no limit but what the endpoint says
	MaxAge             time.Duration // 0 = no limit
}

// StatusSet is a set of status codes from 0 to 639. It is comparable.
type StatusSet [10]uint64

// Add puts the codes from start to end, both included, into the set.
func (s *StatusSet) Add(start, end int) {
	for c := max(start, 0); c <= min(end, len(s)*64-1); c++ {
		s[c/64] |= 1 << (c % 64)
	}
}

// Has reports whether a code is in the set.
func (s *StatusSet) Has(code int) bool {
	return code >= 0 && code < len(s)*64 && s[code/64]>>(code%64)&1 != 0
}

// Pool is the members of a pool.
type Pool struct {
	Key       PoolKey
	Endpoints []Endpoint // each address once
}

// Endpoint is a member of a pool.
type Endpoint struct {
	Addr  netip.AddrPort
	State EndpointState
	// Far: the topology hints of its EndpointSlice give it to other zones or
	// nodes than this process runs in.
	Far bool
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
