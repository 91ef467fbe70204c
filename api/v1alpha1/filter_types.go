package v1alpha1

// RouteFilterType names what a filter does.
//
// +kubebuilder:validation:Enum=RateLimit
type RouteFilterType string

// RouteFilterRateLimit answers what is above a rate with 429.
const RouteFilterRateLimit RouteFilterType = "RateLimit"

// RouteFilter is a step that the requests of a rule go through.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'RateLimit') == has(self.rateLimit)",message="rateLimit is for type: RateLimit, and required there"
type RouteFilter struct {
	// Type says what the filter does.
	//
	// +required
	Type RouteFilterType `json:"type"`

	// RateLimit is for type: RateLimit.
	//
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
}

// RateLimit lets a number of requests in a period through, evenly, and a burst of
// them at once; more get 429. It is a token bucket.
//
// +kubebuilder:validation:XValidation:rule="!has(self.period) || (duration(self.period) >= duration('1s') && duration(self.period) <= duration('24h'))",message="period must be 1s to 24h"
type RateLimit struct {
	// Requests in a period.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +required
	Requests int32 `json:"requests"`

	// Period, from 1s to 24h. Default 1s.
	//
	// +optional
	Period *Duration `json:"period,omitempty"`

	// Burst is how many requests may come at once, after none did for a while.
	// Default: as many as requests.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst *int32 `json:"burst,omitempty"`

	// Key says which requests share a limit. Absent: those of a client address.
	//
	// +optional
	Key *RateLimitKey `json:"key,omitempty"`

	// Scope says what the limit is for: Replica is each replica of the proxy by
	// itself; Cluster is all of them together. They count together in a Redis, if
	// the process has one (setting redis.address); without one each lets through
	// its part, in equal parts. How many there are is known from the proxy's own
	// Service (setting replicas.service); without both, Cluster is the same as
	// Replica. Default Replica.
	//
	// +optional
	Scope RateLimitScope `json:"scope,omitempty"`

	// DryRun turns nothing away and sends no RateLimit headers: what would be
	// turned away is counted, and marked in the access log. Default false.
	//
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// RateLimitScope says what a limit is for.
//
// +kubebuilder:validation:Enum=Replica;Cluster
type RateLimitScope string

const (
	// RateLimitScopeReplica is each replica of the proxy by itself.
	RateLimitScopeReplica RateLimitScope = "Replica"
	// RateLimitScopeCluster is all replicas of the proxy together.
	RateLimitScopeCluster RateLimitScope = "Cluster"
)

// RateLimitKeyType says what a key of a RateLimit is.
//
// +kubebuilder:validation:Enum=ClientIP;Header;Cookie;Route
type RateLimitKeyType string

const (
	// RateLimitKeyClientIP is the client's address; of an IPv6 address its /64,
	// as that is what one client has.
	RateLimitKeyClientIP RateLimitKeyType = "ClientIP"
	// RateLimitKeyHeader is the value of a header.
	RateLimitKeyHeader RateLimitKeyType = "Header"
	// RateLimitKeyCookie is the value of a cookie.
	RateLimitKeyCookie RateLimitKeyType = "Cookie"
	// RateLimitKeyRoute makes all requests of the rule share one limit.
	RateLimitKeyRoute RateLimitKeyType = "Route"
)

// RateLimitKey says which requests share a limit. Those without the header or
// cookie share one, too.
//
// +kubebuilder:validation:XValidation:rule="(has(self.type) && (self.type == 'Header' || self.type == 'Cookie')) == has(self.name)",message="name is for type: Header and type: Cookie, and required there"
type RateLimitKey struct {
	// Type says what the key is.
	//
	// +kubebuilder:default=ClientIP
	// +optional
	Type RateLimitKeyType `json:"type,omitempty"`

	// Name of the header or cookie.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$"
	// +optional
	Name *string `json:"name,omitempty"`
}
