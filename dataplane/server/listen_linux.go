package server

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
)

// TCP keep-alive of clients' connections: the first probe after a minute of
// silence, then one every 15 s, and the fourth without an answer ends it.
const (
	keepAliveIdle     = 60 // s
	keepAliveInterval = 15 // s
	keepAliveProbes   = 4
)

// maxUnsent bounds the bytes of a client's connection that the kernel holds beside
// those on their way. It would take some megabytes of each client that does not
// read, and with a thousand of them the memory that it has for TCP.
const maxUnsent = 128 << 10

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
			set(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
			if shared {
				set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		})
		return errors.Join(failed, err)
	}
}

// cheap returns the listener as one whose connections cost less.
func cheap(l net.Listener) (net.Listener, error) {
	unsteer(l) // what was done for the process before
	return tcp.NewListener(l.(*net.TCPListener))
}

// Shared reports whether another process listens on a TCP address and shares it.
// It returns an error when one does and does not share it.
func Shared(address string) (bool, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return false, err
	}
	if a.Port == 0 || !errors.Is(tryBind(a, false), syscall.EADDRINUSE) {
		return false, nil // Listen will say what else is wrong with it
	}
	if err := tryBind(a, true); err != nil {
		return false, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: os.NewSyscallError("bind", err)}
	}
	return true, nil
}

// tryBind binds a socket as Listen does, and closes it again. It never listens,
// so that the kernel gives it nothing.
func tryBind(a *net.TCPAddr, shared bool) error {
	ip := a.IP
	if ip == nil {
		ip = net.IPv6unspecified
	}
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(ip.To16())})
	if ip4 := ip.To4(); ip4 != nil {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip4)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // it was never used
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if family == unix.AF_INET6 {
		only := 1
		if ip.IsUnspecified() {
			only = 0 // as of the net package, for both families
		}
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only))
	}
	if shared {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}
	if err != nil {
		return err
	}
	return unix.Bind(fd, addr)
}
