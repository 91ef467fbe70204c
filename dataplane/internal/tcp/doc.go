// Package tcp owns the descriptors of accepted TCP connections and the pipes that
// large bodies pass through. It accepts connections for less than package net takes for it: no
// system call but accept4(2), and no look at the runtime's poller before
// something has to be waited for. It works on Linux; elsewhere it is empty, and
// package net does.
//
//	listener_linux.go  accepting
//	conn_linux.go      a connection: its descriptor, and who may close it
//	netconn_linux.go   the rest of what a net.Conn does
//
// It knows nothing of HTTP and keeps nothing. All methods may be called
// concurrently.
package tcp
