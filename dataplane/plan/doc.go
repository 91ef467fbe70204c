// Package plan is the boundary between whoever decides what should be served
// (the Kubernetes controllers, or manifest files) and the data plane that
// serves it.
//
// It owns the desired state as plain data: a Plan is built once, handed to
// dataplane.Engine.Apply and never changed afterwards, so it may be shared
// between goroutines. Nothing survives here across plans; what lives on (pools,
// connections, counters) hangs on a PoolKey or an endpoint's address in package
// upstream. The package imports the standard library only.
package plan
