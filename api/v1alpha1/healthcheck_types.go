package v1alpha1

// HealthCheck says how it is found out which endpoints are fit to take requests.
// What Kubernetes calls not ready gets none in any case.
type HealthCheck struct {
	// Active checks ask each endpoint time and again how it is. Absent: off.
	//
	// +optional
	Active *ActiveCheck `json:"active,omitempty"`

	// Passive checks judge an endpoint by the outcomes of requests. Absent: on,
	// with their defaults.
	//
	// +optional
	Passive *PassiveCheck `json:"passive,omitempty"`

	// PanicThresholdPercent: when a smaller share of the ready endpoints is
	// usable, requests go to all of them, whatever their health. 0 = never.
	// Default 50.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	PanicThresholdPercent *int32 `json:"panicThresholdPercent,omitempty"`
}

// ActiveCheckType is the kind of a check.
//
// +kubebuilder:validation:Enum=HTTP;TCP;GRPC
type ActiveCheckType string

const (
	// ActiveCheckHTTP sends a request and looks at the status of the response.
	ActiveCheckHTTP ActiveCheckType = "HTTP"
	// ActiveCheckTCP establishes a connection.
	ActiveCheckTCP ActiveCheckType = "TCP"
	// ActiveCheckGRPC calls grpc.health.v1.Health/Check.
	ActiveCheckGRPC ActiveCheckType = "GRPC"
)

// ActiveCheck asks each endpoint time and again how it is.
//
// +kubebuilder:validation:XValidation:rule="!has(self.http) || !has(self.type) || self.type == 'HTTP'",message="http is for type: HTTP"
// +kubebuilder:validation:XValidation:rule="!has(self.grpc) || (has(self.type) && self.type == 'GRPC')",message="grpc is for type: GRPC"
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || (duration(self.interval) >= duration('100ms') && duration(self.interval) <= duration('1h'))",message="interval must be 100ms to 1h"
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) > duration('0s')",message="timeout must not be 0s"
// +kubebuilder:validation:XValidation:rule="duration(has(self.timeout) ? self.timeout : '5s') < duration(has(self.interval) ? self.interval : '10s')",message="timeout (default 5s) must be shorter than interval (default 10s)"
type ActiveCheck struct {
	// Type of the check.
	//
	// +kubebuilder:default=HTTP
	// +optional
	Type ActiveCheckType `json:"type,omitempty"`

	// Interval between the starts of two checks of an endpoint, 100ms to 1h.
	// Default 10s.
	//
	// +optional
	Interval *Duration `json:"interval,omitempty"`

	// Timeout of one check, shorter than the interval. Default 5s.
	//
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`

	// JitterPercent is by how much each interval is drawn shorter or longer.
	// Default 10.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	// +optional
	JitterPercent *int32 `json:"jitterPercent,omitempty"`

	// UnhealthyThreshold is how many failures in a row make an endpoint
	// unhealthy. Default 3.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	UnhealthyThreshold *int32 `json:"unhealthyThreshold,omitempty"`

	// HealthyThreshold is how many successes in a row make it healthy again.
	// Default 2.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	HealthyThreshold *int32 `json:"healthyThreshold,omitempty"`

	// Port of the endpoints that is checked. Default: the one that takes
	// requests.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port *int32 `json:"port,omitempty"`

	// HTTP is the request, for type: HTTP.
	//
	// +optional
	HTTP *HTTPCheck `json:"http,omitempty"`

	// GRPC is the call, for type: GRPC.
	//
	// +optional
	GRPC *GRPCCheck `json:"grpc,omitempty"`
}

// HTTPCheck is the request of a check, and the answers that are good.
type HTTPCheck struct {
	// Path of the request, with its query if it has one. Default "/".
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/([!"$&-~]|%[0-9a-fA-F]{2})*$`
	// +optional
	Path *string `json:"path,omitempty"`

	// Hostname that the request is for. Default: the endpoint's address.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Hostname *string `json:"hostname,omitempty"`

	// Method of the request. Default GET.
	//
	// +kubebuilder:validation:Enum=GET;HEAD;OPTIONS
	// +optional
	Method *string `json:"method,omitempty"`

	// ExpectedStatuses are those of a healthy endpoint. Default 200 to 399.
	//
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +optional
	ExpectedStatuses []StatusRange `json:"expectedStatuses,omitempty"`
}

// GRPCCheck is the call of a check.
type GRPCCheck struct {
	// Service that is asked for. Absent: the server as a whole.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	// +optional
	Service *string `json:"service,omitempty"`
}

// StatusRange is the statuses from start to end, both included.
//
// +kubebuilder:validation:XValidation:rule="self.start <= self.end",message="start must not be above end"
type StatusRange struct {
	// Start is the first status.
	//
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=599
	// +required
	Start int32 `json:"start"`

	// End is the last status.
	//
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=599
	// +required
	End int32 `json:"end"`
}

// PassiveCheck judges an endpoint by the outcomes of requests: connect failures,
// resets, timeouts before the response header, and some statuses are failures.
// An endpoint that fails is ejected, which is to say that it gets nothing for a
// time, then one request on trial.
//
// +kubebuilder:validation:XValidation:rule="!has(self.baseEjectionTime) || duration(self.baseEjectionTime) >= duration('100ms')",message="baseEjectionTime must be at least 100ms"
// +kubebuilder:validation:XValidation:rule="duration(has(self.maxEjectionTime) ? self.maxEjectionTime : '5m') >= duration(has(self.baseEjectionTime) ? self.baseEjectionTime : '30s')",message="maxEjectionTime (default 5m) must not be shorter than baseEjectionTime (default 30s)"
type PassiveCheck struct {
	// ConsecutiveFailures eject an endpoint. 0 = off. Default 5.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	ConsecutiveFailures *int32 `json:"consecutiveFailures,omitempty"`

	// Statuses of responses that count as failures; an empty list: none.
	// Default 502 to 504: other errors are often the request's fault.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Statuses []StatusRange `json:"statuses,omitzero"`

	// FailurePercent ejects an endpoint by the share of its requests that
	// failed. Absent: off.
	//
	// +optional
	FailurePercent *FailurePercent `json:"failurePercent,omitempty"`

	// BaseEjectionTime is the time of a first ejection; it doubles with each one
	// in a row. At least 100ms. Default 30s.
	//
	// +optional
	BaseEjectionTime *Duration `json:"baseEjectionTime,omitempty"`

	// MaxEjectionTime is the longest time of an ejection. Default 5m.
	//
	// +optional
	MaxEjectionTime *Duration `json:"maxEjectionTime,omitempty"`

	// MaxEjectionPercent of the endpoints may be ejected at a time; at least one
	// when there are two or more, and never the last one. Default 50.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`
}

// FailurePercent ejects an endpoint by the share of its requests that failed.
//
// +kubebuilder:validation:XValidation:rule="!has(self.window) || (duration(self.window) >= duration('1s') && duration(self.window) <= duration('10m'))",message="window must be 1s to 10m"
type FailurePercent struct {
	// Threshold is that share, in percent. 0 = off.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +required
	Threshold int32 `json:"threshold"`

	// MinRequests in the window, below which nothing is judged. Default 20.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MinRequests *int32 `json:"minRequests,omitempty"`

	// Window is the time that is looked back, 1s to 10m. Default 10s.
	//
	// +optional
	Window *Duration `json:"window,omitempty"`
}
