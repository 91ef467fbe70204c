//go:build linux

package tcp

import (
	"net/netip"
	"syscall"
)

// Polled reports whether the runtime's poller knows the connection.
func (c *Conn) Polled() bool { return c.polled.Load() != nil }

// Descriptor is the number of the connection's file descriptor.
func (c *Conn) Descriptor() int { return c.fd }

// AddrPort is what a connection makes of an address of the kernel's.
func AddrPort(a *syscall.RawSockaddrInet6) netip.AddrPort { return addrPort(a) }
