package v1alpha1

// CircuitBreaker bounds what a Service port is asked to do at a time by each
// replica of the proxy. What is above a bound waits, first come, first served,
// while not too many do; the rest gets 503 at once. 0 = no bound.
type CircuitBreaker struct {
	// MaxConnections to all endpoints together, idle ones included. With HTTP/1,
	// where a connection carries one request at a time, it bounds the requests,
	// too. 0 = no bound. Default 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// MaxParallelRequests of all endpoints together. A request counts until the
	// last byte of its response, so a WebSocket counts for as long as it lives.
	// 0 = no bound. Default 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxParallelRequests *int32 `json:"maxParallelRequests,omitempty"`

	// MaxPendingRequests wait while one of the bounds is reached; more get 503.
	// 0 = none waits. Default 1024.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	MaxPendingRequests *int32 `json:"maxPendingRequests,omitempty"`

	// PendingTimeout is how long a request waits before it gets 503. "0s" = up to
	// its request timeout. Default 5s.
	//
	// +optional
	PendingTimeout *Duration `json:"pendingTimeout,omitempty"`

	// PerEndpoint bounds what each endpoint is asked to do.
	//
	// +optional
	PerEndpoint *PerEndpointLimits `json:"perEndpoint,omitempty"`

	// Adaptive looks for a further bound on the parallel requests by itself.
	// Absent: off.
	//
	// +optional
	Adaptive *AdaptiveConcurrency `json:"adaptive,omitempty"`
}

// PerEndpointLimits bound what each endpoint is asked to do at a time.
type PerEndpointLimits struct {
	// MaxParallelRequests of an endpoint: one that has as many is left out, and
	// when all have, requests wait. 0 = no bound. Default 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxParallelRequests *int32 `json:"maxParallelRequests,omitempty"`
}

// AdaptiveConcurrency finds how many requests a Service port does well at a time,
// from how long it takes to answer them compared with how long it takes without
// a queue.
//
// +kubebuilder:validation:XValidation:rule="(has(self.minParallelRequests) ? self.minParallelRequests : 4) <= (has(self.maxParallelRequests) ? self.maxParallelRequests : 1000)",message="minParallelRequests must not be above maxParallelRequests"
type AdaptiveConcurrency struct {
	// MinParallelRequests is the least bound. Default 4.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MinParallelRequests *int32 `json:"minParallelRequests,omitempty"`

	// MaxParallelRequests is the highest bound. Default 1000.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxParallelRequests *int32 `json:"maxParallelRequests,omitempty"`
}
