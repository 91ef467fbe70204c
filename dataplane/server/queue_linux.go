package server

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lastConnections stops a TCP listener and returns the connections that waited
// in its queue, which closing it would reset. Between the look that finds the
// queue empty and the end of listening nothing but one system call happens.
//
// Handshakes that are under way then are lost, unless another process listens on
// the port and net.ipv4.tcp_migrate_req is 1, which hands them to it.
func lastConnections(l net.Listener) []net.Conn {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return nil // it is in memory
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil // it is closed
	}
	var fds []int
	err = raw.Control(func(fd uintptr) {
		for {
			c, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch err {
			case nil:
				fds = append(fds, c)
			case unix.EINTR, unix.ECONNABORTED:
			default: // EAGAIN, or nothing can be done about it
				_ = unix.Shutdown(int(fd), unix.SHUT_RD) // Close comes next
				return
			}
		}
	})
	if err != nil {
		return nil
	}
	conns := make([]net.Conn, 0, len(fds))
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		if nc, err := net.FileConn(f); err == nil {
			conns = append(conns, nc)
		}
		_ = f.Close() // nc has a descriptor of its own
	}
	return conns
}
