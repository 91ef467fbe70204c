package v1alpha1

// RetryCondition is something that a request is tried again after.
//
// +kubebuilder:validation:Enum=ConnectFailure;Reset;Codes
type RetryCondition string

const (
	// RetryOnConnectFailure is a connection that could not be established. It is
	// always in force: what was never sent is tried elsewhere without a policy.
	RetryOnConnectFailure RetryCondition = "ConnectFailure"
	// RetryOnReset is a connection that ended before the head of a response.
	RetryOnReset RetryCondition = "Reset"
	// RetryOnCodes is a response with one of the statuses of codes, and, when 504
	// is one of them, an attempt that took too long.
	RetryOnCodes RetryCondition = "Codes"
)

// RetryMethods says which methods are tried again after the endpoint may have
// processed the request.
//
// +kubebuilder:validation:Enum=Safe;Idempotent;Any
type RetryMethods string

const (
	// RetryMethodsSafe is GET, HEAD, OPTIONS and TRACE. It is the default.
	RetryMethodsSafe RetryMethods = "Safe"
	// RetryMethodsIdempotent adds PUT and DELETE.
	RetryMethodsIdempotent RetryMethods = "Idempotent"
	// RetryMethodsAny is every method: only for endpoints that recognize a
	// request that they have processed.
	RetryMethodsAny RetryMethods = "Any"
)

// Retry says which failed requests are tried again on another endpoint, although
// the one before may have processed them. What was provably never processed is
// tried elsewhere without it, and whatever it says.
//
// +kubebuilder:validation:XValidation:rule="!has(self.codes) || self.codes.all(c, self.codes.exists_one(o, o == c))",message="codes must be unique"
// +kubebuilder:validation:XValidation:rule="!has(self.conditions) || self.conditions.all(c, self.conditions.exists_one(o, o == c))",message="conditions must be unique"
// +kubebuilder:validation:XValidation:rule="duration(has(self.maxBackoff) ? self.maxBackoff : '1s') >= duration(has(self.backoff) ? self.backoff : '50ms')",message="maxBackoff (default 1s) must not be shorter than backoff (default 50ms)"
// +kubebuilder:validation:XValidation:rule="!has(self.hedgeAfter) || duration(self.hedgeAfter) > duration('0s')",message="hedgeAfter must be longer than 0s"
// +kubebuilder:validation:XValidation:rule="!has(self.hedgeAfter) || !has(self.attempts) || self.attempts > 0",message="hedgeAfter needs attempts (default 1) above 0"
// +kubebuilder:validation:XValidation:rule="!has(self.hedgeAfter) || duration(has(self.totalTimeout) ? self.totalTimeout : '5s') == duration('0s') || duration(self.hedgeAfter) < duration(has(self.totalTimeout) ? self.totalTimeout : '5s')",message="hedgeAfter must be shorter than totalTimeout (default 5s)"
type Retry struct {
	// Attempts after the first one. 0 = none. Default 1.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	Attempts *int32 `json:"attempts,omitempty"`

	// Codes are the statuses of the condition Codes, 400 to 599; an empty list:
	// none. Default 502, 503 and 504.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	// +optional
	Codes []int32 `json:"codes,omitzero"`

	// Conditions that a request is tried again after; an empty list: none but
	// ConnectFailure, which is always in force. Default all. (It is not named
	// "on", which YAML 1.1 reads as true.)
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	// +optional
	Conditions []RetryCondition `json:"conditions,omitzero"`

	// Methods that are tried again. Default Safe.
	//
	// +optional
	Methods RetryMethods `json:"methods,omitempty"`

	// TotalTimeout is from the start of the request to the response's header: no
	// attempt begins after it, and a running one is cut at it. It counts for the
	// methods above only. "0s" = none. Default 5s.
	//
	// +optional
	TotalTimeout *Duration `json:"totalTimeout,omitempty"`

	// Backoff is the most that is waited before the first retry; it doubles with
	// each one, and what is waited is drawn evenly from zero to that. Default
	// 50ms.
	//
	// +optional
	Backoff *Duration `json:"backoff,omitempty"`

	// MaxBackoff is what Backoff doubles up to. Default 1s.
	//
	// +optional
	MaxBackoff *Duration `json:"maxBackoff,omitempty"`

	// MaxBodyBytes is the largest body that is kept to be sent again; a larger one
	// streams once. A body that came together with the head needs no keeping.
	// Default 64Ki.
	//
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$`
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (int(self) >= 0 && int(self) <= 2147483647)",message="must be 0 to 2147483647 bytes, or a string such as \"16Mi\""
	// +optional
	MaxBodyBytes *ByteSize `json:"maxBodyBytes,omitempty"`

	// HonorRetryAfter waits for as long as the Retry-After field of a response
	// asks, if there is the time: up to totalTimeout, or, without one, up to
	// maxBackoff. Default true.
	//
	// +optional
	HonorRetryAfter *bool `json:"honorRetryAfter,omitempty"`

	// HedgeAfter is how long an attempt may go without the header of a response
	// before the request is sent to another endpoint as well; the first response
	// is taken, and the other attempt canceled. It is for GET, HEAD, OPTIONS and
	// TRACE without a body, whatever methods says. The second attempt is one of
	// attempts and spends the retryBudget. Absent: never.
	//
	// +optional
	HedgeAfter *Duration `json:"hedgeAfter,omitempty"`
}

// RetryBudget bounds the retries of a pool that may reach an endpoint's
// application: to percent of the requests of the last interval and, on top, to
// minRetryRate. Others cost nothing.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || (duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h'))",message="interval must be 1s to 1h"
type RetryBudget struct {
	// Percent of the requests. Default 20.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	Percent *int32 `json:"percent,omitempty"`

	// Interval that is looked back, 1s to 1h. Default 10s.
	//
	// +optional
	Interval *Duration `json:"interval,omitempty"`

	// MinRetryRate are retries on top of that, for pools with few requests.
	// Default 10 in 1s.
	//
	// +optional
	MinRetryRate *RetryRate `json:"minRetryRate,omitempty"`
}

// RetryRate is a number of retries in a time.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || (duration(self.interval) >= duration('100ms') && duration(self.interval) <= duration('1h'))",message="interval must be 100ms to 1h"
type RetryRate struct {
	// Count of retries. 0 = none. Default 10.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Count *int32 `json:"count,omitempty"`

	// Interval in which there may be as many, 100ms to 1h. Default 1s.
	//
	// +optional
	Interval *Duration `json:"interval,omitempty"`
}
