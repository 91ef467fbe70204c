package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ProxyClass says which namespaces may claim which hostnames, and the defaults
// of the routes of the class.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pclass,categories=ferrum
// +kubebuilder:printcolumn:name="Default",type=string,JSONPath=`.metadata.annotations.ferrum\.dev/is-default-class`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ProxyClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec ProxyClassSpec `json:"spec,omitempty"`
	// +optional
	Status ConditionsStatus `json:"status,omitempty"`
}

// ProxyClassList is a list of ProxyClasses.
//
// +kubebuilder:object:root=true
type ProxyClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ProxyClass `json:"items"`
}

// ProxyClassSpec is what the platform team decides.
type ProxyClassSpec struct {
	// AllowedRoutes are the grants: a route may claim a hostname when one of
	// them covers both its namespace and the hostname. Absent or empty: every
	// namespace may claim every hostname.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +optional
	AllowedRoutes []RouteGrant `json:"allowedRoutes,omitempty"`

	// Defaults of the routes of the class.
	//
	// +optional
	Defaults *ClassDefaults `json:"defaults,omitempty"`
}

// RouteGrant lets namespaces claim hostnames.
type RouteGrant struct {
	// Namespaces that the grant is for. Absent: all.
	//
	// +optional
	Namespaces *RouteNamespaces `json:"namespaces,omitempty"`

	// Hostnames that may be claimed: exact, "*.example.com" (which grants
	// itself and every name under example.com, exact or wildcard), or "*"
	// (everything, also routes without hostnames). Absent or empty: "*".
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Hostnames []GrantedHostname `json:"hostnames,omitempty"`
}

// GrantedHostname is a Hostname or "*".
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^(\*|(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$`
type GrantedHostname string

// FromNamespaces says which namespaces a grant is for.
//
// +kubebuilder:validation:Enum=All;Selector
type FromNamespaces string

const (
	// NamespacesFromAll stands for every namespace.
	NamespacesFromAll FromNamespaces = "All"
	// NamespacesFromSelector stands for the namespaces that a label selector
	// matches.
	NamespacesFromSelector FromNamespaces = "Selector"
)

// RouteNamespaces selects namespaces.
//
// +kubebuilder:validation:XValidation:rule="(has(self.from) && self.from == 'Selector') == has(self.selector)",message="selector is for from: Selector, and required there"
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || !has(self.selector.matchLabels) || self.selector.matchLabels.size() <= 16",message="selector must have at most 16 matchLabels"
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || !has(self.selector.matchExpressions) || self.selector.matchExpressions.size() <= 16",message="selector must have at most 16 matchExpressions"
type RouteNamespaces struct {
	// From says how namespaces are chosen.
	//
	// +kubebuilder:default=All
	// +optional
	From FromNamespaces `json:"from,omitempty"`

	// Selector on the labels of the Namespace, for from: Selector.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ClassDefaults are taken, stanza by stanza, where a rule has none.
type ClassDefaults struct {
	// Timeouts of rules that have none.
	//
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`

	// Retry of rules that have none.
	//
	// +optional
	Retry *Retry `json:"retry,omitempty"`

	// Limits of rules that have none.
	//
	// +optional
	Limits *Limits `json:"limits,omitempty"`

	// BackendPolicy holds stanzas for Services for which no nearer place has
	// them.
	//
	// +optional
	BackendPolicy *BackendSettings `json:"backendPolicy,omitempty"`
}
