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

// LoadBalancingType names the algorithm that picks an endpoint.
//
// +kubebuilder:validation:Enum=LeastRequest;RoundRobin
type LoadBalancingType string

const (
	// LoadBalancingLeastRequest takes the less busy of two endpoints drawn at
	// random (power of two choices). It is the default.
	LoadBalancingLeastRequest LoadBalancingType = "LeastRequest"
	// LoadBalancingRoundRobin takes the endpoints in turn.
	LoadBalancingRoundRobin LoadBalancingType = "RoundRobin"
)

// LoadBalancing says how an endpoint is picked for a request.
type LoadBalancing struct {
	// Type is the algorithm.
	//
	// +kubebuilder:default=LeastRequest
	// +optional
	Type LoadBalancingType `json:"type,omitempty"`
}

// BackendSettings are the stanzas that say how to talk to one Service port. The
// same struct is used by BackendPolicy, by a rule of a ProxyRoute and by the
// defaults of a ProxyClass. A stanza is taken whole from the nearest place that
// has it: rule, BackendPolicy on the Service port, BackendPolicy on the
// Service, ProxyClass, built-in. Nothing is merged inside a stanza.
type BackendSettings struct {
	// LoadBalancing says how an endpoint is picked. Absent: the next nearest
	// place decides; in the end LeastRequest.
	//
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
}

// Timeouts of a rule. "0s" switches one off.
//
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.connect) || duration(self.request) == duration('0s') || duration(self.connect) <= duration(self.request)",message="connect must not be longer than request"
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.responseHeader) || duration(self.request) == duration('0s') || duration(self.responseHeader) <= duration(self.request)",message="responseHeader must not be longer than request"
type Timeouts struct {
	// Request bounds the whole exchange, from the first byte of the request to
	// the last byte of the response. It is off by default ("0s"): a total would
	// cut honest large transfers.
	//
	// +optional
	Request *Duration `json:"request,omitempty"`

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
	// ConditionProgrammed is True when the data plane serves this generation.
	ConditionProgrammed = "Programmed"
	// ConditionConflicted is True when another, older object claims the same
	// thing; the message names it.
	ConditionConflicted = "Conflicted"
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

	// ReasonProgrammed (Programmed=True): the data plane serves this generation.
	ReasonProgrammed = "Programmed"
	// ReasonInvalid (Programmed=False): the route is not accepted, so nothing of
	// it is served.
	ReasonInvalid = "Invalid"
	// ReasonPending (Programmed=False): the data plane has not applied this
	// generation.
	ReasonPending = "Pending"

	// ReasonNoConflict (Conflicted=False): nothing else claims the same.
	ReasonNoConflict = "NoConflict"
	// ReasonMatchTaken (Conflicted=True): an older route has the same match on
	// the same hostname; the message names its rule.
	ReasonMatchTaken = "MatchTaken"
	// ReasonTargetTaken (Conflicted=True): an older policy has the same target.
	ReasonTargetTaken = "TargetTaken"
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
