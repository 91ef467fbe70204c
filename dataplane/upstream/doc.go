// Package upstream owns everything that is known of backends across changes of
// the plan: the registry of pools, their endpoints, the requests in flight to
// each, the connections kept for reuse, and what is known of the health of each
// endpoint.
//
// A pool lives as long as plans name its key, an endpoint as long as its pool
// has its address: a swap of tables resets nothing here. A pool or endpoint
// that is no longer named is retired: its idle connections are closed and its
// probes end at once, and requests in flight finish on the pointers they hold.
// A pool under a new policy takes over, address by address, what the pool of
// the same Service port before it knew.
//
// The files, by what they are about:
//
//	registry.go  the living pools; run.go: what runs beside requests
//	pool.go      a pool and its members; members.go: who takes requests
//	pick.go      the balancers; another.go: for requests that were tried already;
//	             ring.go and ewma.go: what two of them need
//	upgraded.go  connections that were upgraded, when their endpoint leaves
//	turn.go      a request's hold on an endpoint, and what it reports
//	health.go    the machine of an endpoint's health; judge.go: what feeds it
//	window.go    outcomes of the recent past
//	probe.go     when endpoints are checked; check.go: how
//	idle.go      connections kept for reuse
//	breaker.go   what the pool is asked to do at a time
//	view.go      what people and metrics are shown
//
// # Concurrency
//
// Registry.Prepare and Retire are for one goroutine at a time; everything else may be called
// from any number of them. A pick reads one atomic pointer to an immutable list
// of who takes requests, and takes no lock. What changes that list (a change of
// members, an ejection, a check) is rare, and is done under the pool's mutex by
// publishing a new one.
//
// The package decides nothing about requests: it picks, counts, judges by what
// it is told and keeps connections.
package upstream
