// Package server owns the listeners of the data plane and the life of the
// connections accepted on them: it counts them, turns away those above its
// limits, reads the PROXY headers of those that begin with one, knows which are
// idle, and ends them in order when the process is to stop. It knows nothing of
// HTTP beyond idle and busy, and the one answer for those that it turns away.
//
// A Server is used once: Serve, Drain. Its methods may be called concurrently.
// Nothing here depends on the plan.
//
//	server.go       accepting, and the list of connections
//	conn.go         one connection: who it is of, and whether it is idle
//	header.go       the PROXY header in front of a connection
//	refusal.go      what is turned away, and how
//	drain.go        the end
//	yield_linux.go  before the end, new connections for others on the port
//	listen.go       listeners, and what the kernel is told of them
package server
