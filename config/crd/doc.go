// Package crd embeds the CustomResourceDefinitions generated from api/v1alpha1,
// so that the command line can check manifests offline against the very schemas
// and CEL rules that a cluster has.
//
// It owns no state and may be used concurrently. The files are generated: change
// the markers in api/v1alpha1 and run `make generate`.
package crd
