// Package v1alpha1 holds the three kinds of the ferrum.dev group: ProxyRoute
// (hostnames, rules and backends, written by application teams), BackendPolicy
// (how to talk to one Service) and ProxyClass (who may claim which hostnames,
// and the defaults of the routes of a class).
//
// The package owns their Go types, the markers that the CRDs in config/crd are
// generated from, and the condition types and reasons. It has no behavior:
// what a field means in traffic is decided in controllers/translate.
//
// Names follow Gateway API wherever it has a word for the thing, so that a
// reader of HTTPRoute can read a ProxyRoute. A field is added here only in the
// change that makes it work.
//
// +kubebuilder:object:generate=true
// +groupName=ferrum.dev
package v1alpha1
