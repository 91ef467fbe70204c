package v1alpha1

// BackendSettings are the stanzas that say how to talk to one Service port. The
// same struct is used by BackendPolicy, by a rule of a ProxyRoute and by the
// defaults of a ProxyClass. A stanza is taken whole from the nearest place that
// has it: rule, BackendPolicy on the Service port, BackendPolicy on the
// Service, ProxyClass, built-in. Nothing is merged inside a stanza: what it
// leaves out has its built-in default.
type BackendSettings struct {
	// LoadBalancing says how an endpoint is picked. Absent: the next nearest
	// place decides; in the end LeastRequest.
	//
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`

	// HealthCheck says how it is found out which endpoints are fit to take
	// requests, among those that Kubernetes calls ready. Absent: the next
	// nearest place decides; in the end passive checks with their defaults.
	//
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`

	// RetryBudget bounds the retries of all rules together. Absent: the next
	// nearest place decides; in the end 20 percent and 10 a second.
	//
	// +optional
	RetryBudget *RetryBudget `json:"retryBudget,omitempty"`

	// Connection bounds the connections that are kept for reuse. Absent: the
	// next nearest place decides.
	//
	// +optional
	Connection *Connection `json:"connection,omitempty"`

	// CircuitBreaker bounds what the Service port is asked to do at a time.
	// Absent: the next nearest place decides; in the end nothing is bounded.
	//
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`

	// Drain says what becomes of work at an endpoint that leaves. Absent: the
	// next nearest place decides.
	//
	// +optional
	Drain *Drain `json:"drain,omitempty"`
}

// LoadBalancingType names the algorithm that picks an endpoint.
//
// +kubebuilder:validation:Enum=LeastRequest;RoundRobin;PeakEWMA;ConsistentHash;Random;FirstHealthy
type LoadBalancingType string

const (
	// LoadBalancingLeastRequest takes the less busy of two endpoints drawn at
	// random (power of two choices). It is the default.
	LoadBalancingLeastRequest LoadBalancingType = "LeastRequest"
	// LoadBalancingRoundRobin takes the endpoints in turn.
	LoadBalancingRoundRobin LoadBalancingType = "RoundRobin"
	// LoadBalancingPeakEWMA takes of two endpoints drawn at random the one with
	// the lower product of latency and load.
	LoadBalancingPeakEWMA LoadBalancingType = "PeakEWMA"
	// LoadBalancingConsistentHash takes the same endpoint for the same key of
	// the request, unless it has more than its share of the load.
	LoadBalancingConsistentHash LoadBalancingType = "ConsistentHash"
	// LoadBalancingRandom takes an endpoint at random.
	LoadBalancingRandom LoadBalancingType = "Random"
	// LoadBalancingFirstHealthy takes the first endpoint in order of address.
	LoadBalancingFirstHealthy LoadBalancingType = "FirstHealthy"
)

// Topology says whether the topology hints of EndpointSlices count.
//
// +kubebuilder:validation:Enum=PreferClose;Off
type Topology string

const (
	// TopologyPreferClose follows the hints as kube-proxy does. It is the
	// default.
	TopologyPreferClose Topology = "PreferClose"
	// TopologyOff ignores the hints.
	TopologyOff Topology = "Off"
)

// LoadBalancing says how an endpoint is picked for a request.
//
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'ConsistentHash') == has(self.consistentHash)",message="consistentHash is for type: ConsistentHash, and required there"
type LoadBalancing struct {
	// Type is the algorithm.
	//
	// +kubebuilder:default=LeastRequest
	// +optional
	Type LoadBalancingType `json:"type,omitempty"`

	// ConsistentHash says what of a request is its key, for type:
	// ConsistentHash.
	//
	// +optional
	ConsistentHash *ConsistentHash `json:"consistentHash,omitempty"`

	// SlowStart brings an endpoint that joined or recovered up to its full share
	// over some time. Absent: at once.
	//
	// +optional
	SlowStart *SlowStart `json:"slowStart,omitempty"`

	// Topology says whether the topology hints of EndpointSlices count, which
	// Kubernetes sets where a Service asks for it (spec.trafficDistribution):
	// endpoints that they give to other zones or nodes get nothing while one
	// that they give to the proxy's own can take requests. As in kube-proxy the
	// hints are ignored when a ready endpoint has none, or none is for the
	// proxy's own zone or node. Default PreferClose.
	//
	// +optional
	Topology Topology `json:"topology,omitempty"`
}

// HashKeyType says what a key of ConsistentHash is.
//
// +kubebuilder:validation:Enum=Header;Cookie;QueryParam;SourceIP
type HashKeyType string

const (
	// HashKeyHeader is the value of a header.
	HashKeyHeader HashKeyType = "Header"
	// HashKeyCookie is the value of a cookie.
	HashKeyCookie HashKeyType = "Cookie"
	// HashKeyQueryParam is the value of a query parameter.
	HashKeyQueryParam HashKeyType = "QueryParam"
	// HashKeySourceIP is the client's address.
	HashKeySourceIP HashKeyType = "SourceIP"
)

// ConsistentHash says what of a request is its key. A request without it goes to
// an endpoint drawn at random.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'SourceIP') != has(self.name)",message="name is required, except for type: SourceIP, which has none"
// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.type == 'QueryParam' || self.name.matches('^[-A-Za-z0-9!#$%&\\'*+.^_`|~]+$')",message="name must be a token (RFC 9110, 5.6.2)"
type ConsistentHash struct {
	// Type says what the key is.
	//
	// +required
	Type HashKeyType `json:"type"`

	// Name of the header, cookie or query parameter.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Name *string `json:"name,omitempty"`
}

// SlowStart brings an endpoint up to its full share over some time.
type SlowStart struct {
	// Window is that time. "0s" = at once.
	//
	// +required
	Window Duration `json:"window"`

	// MinWeightPercent is the share, in percent of the full one, that the
	// endpoint begins with. Default 10.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MinWeightPercent *int32 `json:"minWeightPercent,omitempty"`
}

// Connection bounds the connections to an endpoint that are kept for reuse.
type Connection struct {
	// MaxIdlePerEndpoint is how many idle connections are kept. 0 = none.
	// Default 256.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	MaxIdlePerEndpoint *int32 `json:"maxIdlePerEndpoint,omitempty"`

	// IdleTimeout closes a connection that was idle for as long. It should be
	// shorter than that of the backend. "0s" = no limit but what the backend
	// says. Default 55s.
	//
	// +optional
	IdleTimeout *Duration `json:"idleTimeout,omitempty"`

	// MaxAge is how long after its start a connection is used again. "0s" = no
	// limit. Default 0s.
	//
	// +optional
	MaxAge *Duration `json:"maxAge,omitempty"`
}

// Drain says what becomes of work at an endpoint that is terminating or gone. It
// gets no new requests while another one is ready; those that it has end by
// themselves or by their own timeouts.
type Drain struct {
	// Timeout is how long upgraded connections, such as WebSockets, to the
	// endpoint may go on. "0s" = no limit. Default 60s.
	//
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`
}
