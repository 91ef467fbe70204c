// Package translate turns Kubernetes objects into a plan.Plan and a verdict on
// each of them. It owns every decision on what an object means in traffic.
//
// Build is a pure function: no client, no clock, no logger goes in, and the
// order of the lists of the Snapshot does not matter. The stages are
//
//	gather     the objects by name, and which of them changed (gather.go, slices.go)
//	class      which hostnames may a namespace claim (class.go, grants.go)
//	services   their ports and the policies that hold on them (service.go, policy.go)
//	routes     a route with all that it refers to -> a plan.Route (routes.go,
//	           route.go, rule.go, match.go, settings.go, refs.go)
//	conflicts  of equal matches on one host the earliest wins (conflicts.go)
//	pools      the endpoints of the Service ports in use (pools.go)
//	verdicts   conditions, in English (verdicts.go, text.go)
//
// A Builder gives the same Results as Build and keeps between two builds what
// did not change: a route whose meaning is the same keeps its *plan.Route, so
// that the data plane compiles nothing for it; conflicts are looked for only on
// the hostnames of routes that changed; and a change of endpoints touches only
// the pools of their Service. What a route refers to is gathered into one
// comparable value before functions that see nothing else judge it: that makes
// it sound to keep the outcome as long as the value is the same.
//
// With KeepLastGood a Builder also keeps the last good version of each rule, and
// lets it stand in for one that cannot be compiled (lastgood.go).
//
// Whether an object changed is told by its pointer, then by its UID and
// generation, or its resourceVersion where metadata counts. So objects must not
// be changed in place between builds, and each occurs at most once in a
// Snapshot. A Builder holds on to the objects of its last Snapshot only.
//
// Build may be called concurrently, a Builder may not. A Result is never
// changed after it was returned and may be shared between goroutines.
package translate
