// Package controllers connects the Kubernetes API to the data plane: it
// watches the objects that decide what is served, has controllers/translate
// turn all of them into one plan, hands the plan to an Applier, and writes back
// what came of it into the objects' status. Run is the way in.
//
// # One key, whole snapshot
//
// Every event of a ProxyRoute, BackendPolicy, ProxyClass, Service,
// EndpointSlice, Namespace or ReferenceGrant leads to the same work-queue key,
// a short hold-off later, so that a burst is one build. The reconciler lists
// everything from the caches, builds, applies. Nothing is patched, so nothing
// can be forgotten. Events that cannot change the result never reach the queue:
// writes of a status, annotations of EndpointSlices, Services that no route
// names.
//
// The first build happens after every cache has synced, so the data plane never
// gets an empty or a partial first table. It happens also when the cluster holds
// no object at all: an empty cluster is a complete answer.
//
// # The API server may go away
//
// It may be down at the start, go down later, and come up without our CRDs:
// Run waits, says in the log what it waits for, and goes on by itself. No cache
// forgets anything because of an error, no error ends Run, and the plan that was
// applied last stays applied. A plan that the Applier refuses is tried again
// with backoff while the one before keeps serving.
//
// ReferenceGrant belongs to Gateway API, which need not be installed: it is
// watched, in the version that is served, from the moment the API server serves
// it. Its cache is its own, so that nothing waits for a kind that may go again.
//
// # Who writes statuses
//
// Every replica watches, builds and applies. One of them, elected by the Lease
// Options.LeaseName, writes statuses. Losing the Lease pauses the writes and
// nothing else; the replica campaigns again. What somebody else undoes, such as
// another installation that serves the same class, is written ever more seldom.
//
// Programmed=True says that every ready replica serves the generation. The writer
// knows the replicas by the EndpointSlices of the proxy's own Service (replicas.go)
// and asks their admin ports what they serve (poller, adminports.go), its own like
// the others'. What they have said is in the census, which also has the rule. A
// status about which there is something to ask is written after the answers, so
// that an edit is one write where all replicas are as fast as the writer. Without
// Peers or such a Service, Programmed speaks for the writer alone.
//
// What is not obvious: what was True is read from the status itself, so that it
// stays True over a change of the writer; and a replica that restarts without
// having been unready meanwhile, as far as the EndpointSlices say, is not asked
// anew.
//
// A status is written only when it differs from what the cache holds, as a
// merge patch guarded by the resourceVersion. A conflict is dropped: the object
// has changed, so an event is on its way that looks again. Two writers, as there
// can be for a moment around a change of the leader, thus cannot undo each
// other.
//
// # The health of backends
//
// What the data plane of the status writer knows of endpoints (Health) is in the
// status of each route, as counts per rule and as the condition BackendsHealthy.
// A look at it follows each applied plan and each transition that the data plane
// tells of (Transitions), a hold-off later; a status is written for it at most
// every healthPause, however endpoints flap, and after those for verdicts: with a
// thousand routes that flap there is no end of them. Transitions also become Events
// on the Service, joined per look; client-go makes a series of repeated ones.
//
// # State and concurrency
//
// The package owns the informer caches, the memoised builder and the latest
// verdicts. They live as long as Run. The Applier is called by one goroutine at
// a time. Everything else is internal.
package controllers
