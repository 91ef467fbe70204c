package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Duration is a Gateway API duration (GEP-2257): up to four of "<int>h",
// "<int>m", "<int>s", "<int>ms", as in "1h30m" or "250ms". It stays a string in
// Go so that one object with a bad value cannot fail the decoding of a whole
// list; controllers/translate parses it.
//
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
// +kubebuilder:validation:MaxLength=32
type Duration string

// Hostname is a DNS name in lower case, exact ("shop.example.com") or with one
// leftmost wildcard label ("*.example.com", which matches one or more labels).
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type Hostname string

// ByteSize is a number of bytes: an integer up to 2147483647, or a string with
// one of the suffixes Ki, Mi, Gi, Ti, k, M, G, T ("16Mi").
//
// It is an alias, on which controller-gen reads no markers: each field of this
// type carries the markers itself. The bound on
// integers is that of intstr.IntOrString, whose decoding of a larger one would
// fail, and with it that of a whole list.
type ByteSize = intstr.IntOrString

// Timeouts of a rule. "0s" switches one off.
//
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.connect) || duration(self.request) == duration('0s') || duration(self.connect) <= duration(self.request)",message="connect must not be longer than request"
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.responseHeader) || duration(self.request) == duration('0s') || duration(self.responseHeader) <= duration(self.request)",message="responseHeader must not be longer than request"
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') || duration(self.backendRequest) <= duration(self.request)",message="backendRequest must not be longer than request"
type Timeouts struct {
	// Request bounds the whole exchange, from the first byte of the request to
	// the last byte of the response. It is off by default ("0s"): a total would
	// cut honest large transfers.
	//
	// +optional
	Request *Duration `json:"request,omitempty"`

	// BackendRequest bounds one attempt, from the pick of its endpoint to the last
	// byte of its response. Default 0s.
	//
	// +optional
	BackendRequest *Duration `json:"backendRequest,omitempty"`

	// Connect bounds the establishment of a connection to an endpoint.
	// Default 3s.
	//
	// +optional
	Connect *Duration `json:"connect,omitempty"`

	// ResponseHeader bounds the time from the request sent to the response's
	// header read. Default 60s.
	//
	// +optional
	ResponseHeader *Duration `json:"responseHeader,omitempty"`

	// RequestBodyIdle bounds the time between two reads of the request's body.
	// Default 15s.
	//
	// +optional
	RequestBodyIdle *Duration `json:"requestBodyIdle,omitempty"`

	// ResponseBodyIdle bounds the time between two reads of the response's
	// body. Default 60s.
	//
	// +optional
	ResponseBodyIdle *Duration `json:"responseBodyIdle,omitempty"`

	// StreamIdle stands for those two in upgraded connections, gRPC and
	// text/event-stream: the time in which nothing goes in either direction.
	// Default 1h.
	//
	// +optional
	StreamIdle *Duration `json:"streamIdle,omitempty"`
}

// Limits of a rule.
type Limits struct {
	// MaxRequestBodyBytes caps the body of a request as it streams: a larger
	// Content-Length is answered with 413 at once, a larger chunked body is cut
	// when it passes the cap. Nothing is buffered for it. 0 = no cap.
	// Default 16Mi.
	//
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$`
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (int(self) >= 0 && int(self) <= 2147483647)",message="must be 0 to 2147483647 bytes, or a string such as \"16Mi\""
	// +optional
	MaxRequestBodyBytes *ByteSize `json:"maxRequestBodyBytes,omitempty"`

	// MaxResponseBodyBytes caps the body of a response: a larger Content-Length
	// is answered with 502, and a body of unknown length is cut, visibly to the
	// client, when it passes the cap. 0 = no cap. Default 0.
	//
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$`
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (int(self) >= 0 && int(self) <= 2147483647)",message="must be 0 to 2147483647 bytes, or a string such as \"16Mi\""
	// +optional
	MaxResponseBodyBytes *ByteSize `json:"maxResponseBodyBytes,omitempty"`

	// MinRequestBodyRate is how fast a request's body has to come, in bytes per
	// second on average since it began, after a grace of 10 s; else 408. It does
	// not count for streams. 0 = off. Default 240.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	// +optional
	MinRequestBodyRate *int32 `json:"minRequestBodyRate,omitempty"`

	// MaxInFlight is how many requests of the rule may be under way at a time,
	// in each replica of the proxy; more get 503. A request is under way until
	// the last byte of its response. 0 = no limit. Default 0.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxInFlight *int32 `json:"maxInFlight,omitempty"`
}

// Condition types. ProxyRoute has all of them; BackendPolicy has Accepted and
// Conflicted; ProxyClass has Accepted.
const (
	// ConditionAccepted is True when the object's shape, class and hostnames
	// are accepted.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is True when every Service, port and grant that the
	// object refers to was found.
	ConditionResolvedRefs = "ResolvedRefs"
	// ConditionProgrammed is True when every ready replica of the proxy serves
	// this generation. Where replicas do not know each other, it speaks for the
	// one that writes the status.
	ConditionProgrammed = "Programmed"
	// ConditionConflicted is True when another, older object claims the same
	// thing; the message names it.
	ConditionConflicted = "Conflicted"
	// ConditionBackendsHealthy is True when every backend of the route that has
	// a weight can take requests, as the replica that writes the status sees it.
	// It is absent as long as nothing of the route is served or none of its
	// references resolves.
	ConditionBackendsHealthy = "BackendsHealthy"
)

// Condition reasons.
const (
	// ReasonAccepted (Accepted=True): nothing is wrong.
	ReasonAccepted = "Accepted"
	// ReasonNoClass (Accepted=False): the route names no class and no class is
	// the default, or there is none at all.
	ReasonNoClass = "NoClass"
	// ReasonClassNotFound (Accepted=False): the ProxyClass that the route names
	// does not exist.
	ReasonClassNotFound = "ClassNotFound"
	// ReasonNotAllowedByClass (Accepted=False): the class grants none of the
	// route's hostnames to its namespace.
	ReasonNotAllowedByClass = "NotAllowedByClass"
	// ReasonPartiallyAllowed (Accepted=True): the class refuses some of the
	// hostnames; the others are served. The message names them.
	ReasonPartiallyAllowed = "PartiallyAllowed"
	// ReasonInvalidRule (Accepted=False): every rule is invalid.
	ReasonInvalidRule = "InvalidRule"
	// ReasonPartiallyInvalid (Accepted=True): some rules, or some of their
	// matches, are invalid; the others are served. The message names them.
	ReasonPartiallyInvalid = "PartiallyInvalid"
	// ReasonInvalidSelector (Accepted=False): a label selector of the class
	// cannot be read.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonTargetNotFound (Accepted=False): the policy's targets do not exist.
	ReasonTargetNotFound = "TargetNotFound"

	// ReasonResolvedRefs (ResolvedRefs=True): everything was found.
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonBackendNotFound (ResolvedRefs=False): a Service does not exist.
	ReasonBackendNotFound = "BackendNotFound"
	// ReasonPortNotFound (ResolvedRefs=False): a Service has no such port.
	ReasonPortNotFound = "PortNotFound"
	// ReasonRefNotPermitted (ResolvedRefs=False): a reference into another
	// namespace without a ReferenceGrant there.
	ReasonRefNotPermitted = "RefNotPermitted"
	// ReasonUnsupportedBackend (ResolvedRefs=False): an ExternalName Service,
	// or a port that is not TCP.
	ReasonUnsupportedBackend = "UnsupportedBackend"

	// ReasonProgrammed (Programmed=True): every ready replica serves this
	// generation.
	ReasonProgrammed = "Programmed"
	// ReasonInvalid (Programmed=False): the route is not accepted, so nothing of
	// it is served.
	ReasonInvalid = "Invalid"
	// ReasonUsingLastKnownGood (Programmed=False): rules of this generation
	// cannot be compiled; the last good version of each, as long as the process
	// knows one, is served in its place.
	ReasonUsingLastKnownGood = "UsingLastKnownGood"
	// ReasonPending (Programmed=False): some ready replica does not serve this
	// generation; the message names it and says which one it serves.
	ReasonPending = "Pending"

	// ReasonNoConflict (Conflicted=False): nothing else claims the same.
	ReasonNoConflict = "NoConflict"
	// ReasonMatchTaken (Conflicted=True): an older route has the same match on
	// the same hostname; the message names its rule.
	ReasonMatchTaken = "MatchTaken"
	// ReasonTargetTaken (Conflicted=True): an older policy has the same target.
	ReasonTargetTaken = "TargetTaken"

	// ReasonBackendsHealthy (BackendsHealthy=True): every backend has endpoints
	// that take requests.
	ReasonBackendsHealthy = "BackendsHealthy"
	// ReasonNoUsableEndpoints (BackendsHealthy=False): a backend has no endpoint
	// that takes requests, so its share is answered with 503; with
	// onNoEndpoints: Rebalance, no backend of the rule has one. The message
	// names them.
	ReasonNoUsableEndpoints = "NoUsableEndpoints"
	// ReasonPanic (BackendsHealthy=False): of a backend so few endpoints are
	// usable that requests go to all of them, whatever their health
	// (panicThresholdPercent). The message names it.
	ReasonPanic = "Panic"
	// ReasonUnknown (BackendsHealthy=Unknown): the data plane does not know a
	// backend yet.
	ReasonUnknown = "Unknown"
)

// DefaultClassAnnotation makes a ProxyClass on which it is "true" the class of
// the routes that name none.
const DefaultClassAnnotation = "ferrum.dev/is-default-class"

// ConditionsStatus is the status of BackendPolicy and ProxyClass.
type ConditionsStatus struct {
	// Conditions say what the controller thinks of the object.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
