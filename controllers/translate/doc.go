// Package translate turns Kubernetes objects into a plan.Plan and a verdict on
// each of them. It owns every decision on what an object means in traffic.
//
// Build is a pure function: no client, no clock, no logger goes in, and the
// order of the lists of the Snapshot does not matter. The stages are
//
//	gather     index the objects; tell which kinds changed (gather.go, slices.go)
//	class      which hostnames may a namespace claim (class.go, grants.go)
//	services   ports and the policies that hold on them (policy.go, service.go)
//	rules      one route with all that it refers to -> one plan.Route (route.go,
//	           rule.go, match.go, settings.go, refs.go)
//	conflicts  equal matches of two rules; the earlier wins (conflicts.go)
//	pools      the endpoints of the Service ports in use (pools.go)
//	verdicts   conditions in English (verdicts.go, text.go)
//
// A Builder gives the same Results as Build and keeps between two builds what
// did not change: a route whose inputs are the same keeps its *plan.Route, so
// that the data plane recompiles nothing for it, and a change of endpoints
// touches only the pools of their Service.
//
// The inputs of a route are gathered into one value first and judged by
// functions that see nothing else; comparing that value with the one of the
// build before is what makes keeping the outcome sound. Objects are compared by
// pointer, then by UID and generation (or resourceVersion where metadata
// counts), so objects must not be changed in place between builds. Each object
// occurs at most once in a Snapshot.
//
// Build may be called concurrently, a Builder may not. A Result is never
// changed after it was returned and may be shared between goroutines.
package translate
