package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ProxyRoute says which requests go to which Services.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pr,categories=ferrum
// +kubebuilder:printcolumn:name="Hostnames",type=string,JSONPath=`.spec.hostnames`
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.className`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Serving",type=integer,JSONPath=`.status.replicas.programmed`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas.total`
// +kubebuilder:printcolumn:name="Healthy",type=string,JSONPath=`.status.conditions[?(@.type=="BackendsHealthy")].status`
// +kubebuilder:printcolumn:name="Conflicted",type=string,JSONPath=`.status.conditions[?(@.type=="Conflicted")].status`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ProxyRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ProxyRouteSpec `json:"spec"`
	// +optional
	Status ProxyRouteStatus `json:"status,omitempty"`
}

// ProxyRouteList is a list of ProxyRoutes.
//
// +kubebuilder:object:root=true
type ProxyRouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ProxyRoute `json:"items"`
}

// ProxyRouteSpec is what the user asks for.
//
// +kubebuilder:validation:XValidation:rule="self.rules.all(r, !has(r.name) || self.rules.exists_one(o, has(o.name) && o.name == r.name))",message="rule names must be unique"
type ProxyRouteSpec struct {
	// ClassName is the ProxyClass of the route. Absent: the class annotated
	// ferrum.dev/is-default-class, or the only one there is.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:MinLength=1
	// +optional
	ClassName *string `json:"className,omitempty"`

	// Hostnames that the route serves, compared with the host of the request
	// without regard to case, port or a trailing dot. Empty: every host, which
	// the class must grant with "*".
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Hostnames []Hostname `json:"hostnames,omitempty"`

	// Rules, of which the best match takes the request. Precedence over all
	// rules of all routes: exact host, longest wildcard host, no host; then
	// Exact path, longest PathPrefix, RegularExpression; then a method; then
	// the number of headers; then the number of query parameters; then the
	// oldest route; then namespace/name; then the order of the rules.
	//
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +required
	Rules []RouteRule `json:"rules"`
}

// RouteRule sends the requests that one of its matches takes to its backends.
//
// +kubebuilder:validation:XValidation:rule="self.backendRefs.exists(b, !has(b.weight) || b.weight > 0)",message="at least one backendRef must have a weight above 0"
// +kubebuilder:validation:XValidation:rule="!has(self.retry) || !has(self.retry.hedgeAfter) || !has(self.timeouts) || !has(self.timeouts.backendRequest) || duration(self.timeouts.backendRequest) == duration('0s') || duration(self.retry.hedgeAfter) < duration(self.timeouts.backendRequest)",message="retry.hedgeAfter must be shorter than timeouts.backendRequest"
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !self.name.matches('^rule-[0-9]+$')",message="names of the form rule-<number> are given to rules without a name"
type RouteRule struct {
	// Name of the rule, a DNS label: it names the rule in conditions, logs and
	// metrics. Default rule-<index>.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`

	// Matches of which one suffices. Absent: every path.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Matches []RouteMatch `json:"matches,omitempty"`

	// Filters that requests go through, in order.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Filters []RouteFilter `json:"filters,omitempty"`

	// BackendRefs are the Services that share the requests by weight.
	//
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +required
	BackendRefs []BackendRef `json:"backendRefs"`

	// OnNoEndpoints says what becomes of the share of a backend that has no
	// endpoint: Reject answers it with 503, Rebalance leaves it to the others.
	// Default Reject.
	//
	// +optional
	OnNoEndpoints OnNoEndpoints `json:"onNoEndpoints,omitempty"`

	// SessionPersistence keeps the requests of a client at one endpoint as long
	// as that endpoint is there. Absent: none.
	//
	// +optional
	SessionPersistence *SessionPersistence `json:"sessionPersistence,omitempty"`

	// Timeouts of the rule; taken whole from the class when absent.
	//
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`

	// Retry says which failed requests are tried again; taken whole from the class
	// when absent. Without either, only what was provably never processed by an
	// endpoint is.
	//
	// +optional
	Retry *Retry `json:"retry,omitempty"`

	// Limits of the rule; taken whole from the class when absent.
	//
	// +optional
	Limits *Limits `json:"limits,omitempty"`

	// BackendPolicy holds stanzas of a BackendPolicy for this rule alone.
	//
	// +optional
	BackendPolicy *BackendSettings `json:"backendPolicy,omitempty"`
}

// OnNoEndpoints says what becomes of the share of a backend without endpoints.
//
// +kubebuilder:validation:Enum=Reject;Rebalance
type OnNoEndpoints string

const (
	// OnNoEndpointsReject answers the share with 503.
	OnNoEndpointsReject OnNoEndpoints = "Reject"
	// OnNoEndpointsRebalance leaves the share to the other backends.
	OnNoEndpointsRebalance OnNoEndpoints = "Rebalance"
)

// SessionPersistenceType says how a client names its session.
//
// +kubebuilder:validation:Enum=Cookie
type SessionPersistenceType string

// SessionPersistenceCookie names the session in a cookie that the proxy sets.
const SessionPersistenceCookie SessionPersistenceType = "Cookie"

// SessionPersistence keeps the requests of a client at one endpoint.
type SessionPersistence struct {
	// Type says how a client names its session.
	//
	// +kubebuilder:default=Cookie
	// +optional
	Type SessionPersistenceType `json:"type,omitempty"`

	// SessionName is the name of the cookie. Rules that one client uses under
	// the same hostname need different ones. Default "ferrum".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$"
	// +optional
	SessionName *string `json:"sessionName,omitempty"`

	// AbsoluteTimeout ends a session that long after its start, whatever happens
	// in it. "0s": it lasts as long as the client's own. Default 0s.
	//
	// +optional
	AbsoluteTimeout *Duration `json:"absoluteTimeout,omitempty"`
}

// RouteMatch is met when all of its conditions are.
type RouteMatch struct {
	// Path condition. Absent: PathPrefix "/".
	//
	// +optional
	Path *PathMatch `json:"path,omitempty"`

	// Method of the request, compared exactly. Absent: every method.
	//
	// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;PATCH;DELETE;OPTIONS;TRACE
	// +optional
	Method *string `json:"method,omitempty"`

	// Headers that all have to match. A repeated header is compared as its
	// values joined by ", " (RFC 9110, 5.3).
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Headers []HeaderMatch `json:"headers,omitempty"`

	// QueryParams that all have to match. Of a repeated parameter the first
	// counts.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	QueryParams []QueryParamMatch `json:"queryParams,omitempty"`
}

// PathMatchType says how a path is compared.
//
// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
type PathMatchType string

const (
	// PathMatchExact compares the whole path.
	PathMatchExact PathMatchType = "Exact"
	// PathMatchPathPrefix compares by segment: "/a" matches "/a" and "/a/b",
	// not "/ab".
	PathMatchPathPrefix PathMatchType = "PathPrefix"
	// PathMatchRegularExpression matches an RE2 expression against the whole
	// path.
	PathMatchRegularExpression PathMatchType = "RegularExpression"
)

// PathMatch is a condition on the path of the request in its canonical form:
// percent-encoded unreserved characters decoded, dot segments removed, repeated
// slashes merged. The same bytes are forwarded.
//
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || self.value.startsWith('/')",message="path must start with '/'"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !self.value.contains('//')",message="path must not contain '//'"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !(self.value + '/').contains('/./')",message="path must not contain a '.' segment"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !(self.value + '/').contains('/../')",message="path must not contain a '..' segment"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !self.value.lowerAscii().contains('%2f')",message="path must not contain '%2f'"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !self.value.contains('#')",message="path must not contain '#'"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || !self.value.contains('?')",message="path must not contain '?'; use queryParams"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'RegularExpression') || self.value.matches('^(?:[-A-Za-z0-9/._~!$&\\'()*+,;=:@?#]|%[0-9a-fA-F]{2})*$')",message="path must hold only characters allowed in a URL path (RFC 3986, 3.3); percent-encode the others"
type PathMatch struct {
	// Type says how the value is compared.
	//
	// +kubebuilder:default=PathPrefix
	// +optional
	Type PathMatchType `json:"type,omitempty"`

	// Value to compare with.
	//
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Value string `json:"value,omitempty"`
}

// ValueMatchType says how a header or query value is compared.
//
// +kubebuilder:validation:Enum=Exact;RegularExpression
type ValueMatchType string

const (
	// ValueMatchExact compares the whole value.
	ValueMatchExact ValueMatchType = "Exact"
	// ValueMatchRegularExpression matches an RE2 expression against the whole
	// value.
	ValueMatchRegularExpression ValueMatchType = "RegularExpression"
)

// HeaderMatch is a condition on a header of the request.
type HeaderMatch struct {
	// Type says how the value is compared.
	//
	// +kubebuilder:default=Exact
	// +optional
	Type ValueMatchType `json:"type,omitempty"`

	// Name of the header, compared without regard to case.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+\\-.^`|~]+$"
	// +required
	Name string `json:"name"`

	// Value to compare with.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +required
	Value string `json:"value"`
}

// QueryParamMatch is a condition on a query parameter of the request, after
// percent-decoding.
type QueryParamMatch struct {
	// Type says how the value is compared.
	//
	// +kubebuilder:default=Exact
	// +optional
	Type ValueMatchType `json:"type,omitempty"`

	// Name of the parameter, compared exactly.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Name string `json:"name"`

	// Value to compare with.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Value string `json:"value"`
}

// BackendRef names a port of a Service.
type BackendRef struct {
	// Name of the Service.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// Namespace of the Service. Another one than the route's needs a
	// ReferenceGrant there. Default: the route's.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace *string `json:"namespace,omitempty"`

	// Port of the Service, by number or name.
	//
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (int(self) >= 1 && int(self) <= 65535)",message="port must be 1 to 65535 or a port name"
	// +required
	Port intstr.IntOrString `json:"port"`

	// Weight is this backend's share of the requests, in proportion to the sum
	// of all weights. 0: none. Default 1.
	//
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Weight *int32 `json:"weight,omitempty"`
}

// ProxyRouteStatus is what the controller found.
type ProxyRouteStatus struct {
	// ObservedGeneration is the generation of the spec that this status speaks
	// of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Accepted, ResolvedRefs, Programmed, Conflicted,
	// BackendsHealthy.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Hostnames that are really served after grants and conflicts; "*" stands
	// for every host.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`

	// Replicas counts the ready replicas of the proxy. It is absent while the
	// replica that writes the status does not serve this generation, and where
	// that one does not know the others.
	//
	// +optional
	Replicas *ReplicaCounts `json:"replicas,omitempty"`

	// Rules tells of the endpoints of each rule that is served, as the replica
	// that writes the status sees them. It follows within some 10 s.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Rules []RuleStatus `json:"rules,omitempty"`
}

// ReplicaCounts counts replicas of the proxy.
type ReplicaCounts struct {
	// Programmed is how many of them have said that they serve the generation
	// that the status speaks of.
	//
	// +required
	Programmed int32 `json:"programmed"`

	// Total is how many are ready. While Programmed stays True, a change of it
	// is written only when it has lasted for some time.
	//
	// +required
	Total int32 `json:"total"`
}

// RuleStatus tells of the backends of a rule.
type RuleStatus struct {
	// Name of the rule.
	//
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	// Endpoints of all backends of the rule, by state.
	//
	// +required
	Endpoints EndpointCounts `json:"endpoints"`
}

// EndpointCounts counts endpoints by what is known of them. Those that are
// neither ready nor serving are in none.
type EndpointCounts struct {
	// Ready ones are called ready by Kubernetes, and nothing speaks against
	// them.
	//
	// +required
	Ready int32 `json:"ready"`

	// Draining ones are terminating and finish what they have.
	//
	// +required
	Draining int32 `json:"draining"`

	// Ejected ones are ready but have failed requests.
	//
	// +required
	Ejected int32 `json:"ejected"`

	// Unhealthy ones are ready but fail their active checks.
	//
	// +required
	Unhealthy int32 `json:"unhealthy"`
}
