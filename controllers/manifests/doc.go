// Package manifests reads a translate.Snapshot from YAML and JSON files, so
// that ferrum can serve and check manifests without a cluster.
//
// It owns the file formats (several documents per file, kind: List, JSON), the
// discovery and watching of files, and the validation that an API server would
// do: the schemas, defaults and CEL rules of our own kinds come from the
// CustomResourceDefinitions in config/crd, run by the code that the API server
// runs; Services, EndpointSlices, Secrets, Namespaces and ReferenceGrants are
// decoded strictly and checked for what matters here.
//
// Three things of a cluster are imitated: an object without a namespace is in
// "default", a Namespace has the label kubernetes.io/metadata.name, and a
// Namespace that is not given but that an object is in exists. What an API
// server would assign (uid, resourceVersion, generation) is dropped, and so is
// the status; creationTimestamp is kept when the file has it.
//
// Load, Check and Validate may be called concurrently. Nothing is shared
// between two calls of Watch; within one, an object keeps its pointer as long
// as its file does not change, so that a translate.Builder can tell what
// changed. Snapshots must not be modified.
package manifests
