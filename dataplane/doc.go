// Package dataplane owns the data plane as a whole: the Engine takes plans and
// serves traffic by the one applied last. It imports nothing of Kubernetes and
// can be driven by a test in memory.
//
// The folders below, from the bottom up; each imports only what stands before
// it:
//
//	plan       the desired state, as plain data
//	route      the immutable table: host, path, method, header, query -> rule
//	limit      rates, counts, queues: the limits, each a machine of its own
//	           (limit/shared: rates that all replicas count together, in Redis)
//	retry      whether a request is tried again, and the budget for it
//	http1      the wire: parsing, connections, bodies
//	           (internal/tcp: accepted connections)
//	upstream   pools, endpoints, balancers, health, connections kept for reuse;
//	           survives all swaps
//	proxy      the life of one request, and the reason table
//	proxyproto the header in which a load balancer names its client
//	server     listeners, connections, draining
//	telemetry  metrics and the access log
//	admin      probes, /metrics, /debug
//
// A plan is applied in three steps: prepare (pools and endpoints that the plan
// needs come to life), publish (one pointer; a request loads it once and keeps
// it to its end), retire (what the plan does not have ends; requests in flight
// finish on the pointers they hold). Pools, their connections and counts, what is
// known of the health of their endpoints, and the series of rules survive a swap
// by their identity; the table does not.
//
// An Engine's methods may be called concurrently.
package dataplane
