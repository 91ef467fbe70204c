// Package tcp owns the descriptors of accepted TCP connections. It accepts for less than package net takes for it:
// no system call but accept4(2), and nothing of the runtime's poller before
// something has to be waited for. All of it is for Linux; elsewhere package net
// accepts.
//
//	listener  accepting
//	conn      a connection: its descriptor, and who may close it
//	netconn   the rest of what a net.Conn does
//
// It knows nothing of HTTP and of plans: a swap touches nothing here. All methods
// may be called concurrently.
package tcp
