// Package upstream owns everything that is known of backends across changes of
// the plan: the registry of pools, their endpoints, the requests in flight to
// each and the connections kept for reuse.
//
// A pool lives as long as plans name its key, an endpoint as long as its pool
// has its address: a swap of tables resets nothing here. A pool or endpoint
// that is no longer named is retired: its idle connections are closed at once
// and requests in flight finish on the pointers they hold.
//
// Registry.Apply is for one goroutine at a time; everything else may be called
// from any number of them. The package decides nothing about requests: it
// picks, counts and keeps connections.
package upstream
