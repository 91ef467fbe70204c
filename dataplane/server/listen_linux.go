package server

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCP keep-alive of clients' connections: the first probe after a minute of
// silence, then one every 15 s, and the fourth without an answer ends it.
const (
	keepAliveIdle     = 60 // s
	keepAliveInterval = 15 // s
	keepAliveProbes   = 4
)

// control sets the options of a listener before it is bound.
func control(shared bool) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		failed := c.Control(func(fd uintptr) {
			set := func(level, option, value int) {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), level, option, value))
			}
			set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle)
			set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval)
			set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes)
			if shared {
				set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		})
		return errors.Join(failed, err)
	}
}
