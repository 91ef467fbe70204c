package tcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listener is a net.Listener of TCP whose connections are Conns.
type Listener struct {
	file   *os.File
	raw    syscall.RawConn
	addr   net.Addr
	closed atomic.Bool

	mu       sync.Mutex // one goroutine accepts at a time; its callback uses what follows
	accept   func(fd uintptr) bool
	accepted *Conn
	failed   syscall.Errno
}

// NewListener makes a Listener of one of package net, which it closes in any
// case. The options of the connections are those that the kernel copies from the
// listener's socket; it sets TCP_NODELAY there.
func NewListener(l *net.TCPListener) (*Listener, error) {
	defer func() { _ = l.Close() }() // the socket stays open
	// A descriptor of the same socket, because that of l cannot be waited on
	// but by Accept.
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err == nil {
		failed := raw.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		})
		if failed != nil {
			err = failed
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	n := &Listener{file: file, raw: raw, addr: l.Addr()}
	n.accept = n.onReadable
	return n, nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// Close implements net.Listener.
func (l *Listener) Close() error {
	if l.closed.Swap(true) {
		return l.fail(net.ErrClosed)
	}
	return l.file.Close()
}

// Accept implements net.Listener: it returns a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = 0
	err := l.raw.Read(l.accept)
	c := l.accepted
	l.accepted = nil // it may outlive its connection by long
	switch {
	case err != nil && l.closed.Load():
		return nil, l.fail(net.ErrClosed)
	case err != nil:
		return nil, l.fail(err)
	case l.failed != 0:
		return nil, l.fail(os.NewSyscallError("accept4", l.failed))
	}
	return c, nil
}

// SyscallConn implements syscall.Conn, for options of the socket.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.raw, nil }

func (l *Listener) fail(err error) error {
	return &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: err}
}

// onReadable accepts a connection; false: there is none.
func (l *Listener) onReadable(fd uintptr) bool {
	l.accepted, l.failed = accept(fd)
	return l.failed != syscall.EAGAIN
}

// Last stops the listener and returns the connections that waited in its queue,
// which closing it would reset. Between the look that finds the queue empty and
// the end of listening nothing but one system call happens. What is left is to
// Close it.
//
// Handshakes that are under way then are lost, unless another process listens on
// the port and net.ipv4.tcp_migrate_req is 1, which hands them to it. So a server that
// shares its port has new ones go to others some time before.
func (l *Listener) Last() []net.Conn {
	var last []net.Conn
	_ = l.raw.Control(func(fd uintptr) { // else it is closed
		for {
			c, errno := accept(fd)
			if errno != 0 { // EAGAIN, or nothing can be done about it
				_ = unix.Shutdown(int(fd), unix.SHUT_RD) // Close comes next
				return
			}
			last = append(last, c)
		}
	})
	return last
}

// accept takes a connection from the queue of a listener that does not block.
// Like those of package http1 it is a system call of which the scheduler is not
// told, because it never waits.
func accept(fd uintptr) (*Conn, syscall.Errno) {
	var from syscall.RawSockaddrInet6 // the larger one
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)),
			syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return &Conn{fd: int(n), peer: addrPort(&from)}, 0
		case syscall.EINTR, syscall.ECONNABORTED: // the latter: it was reset while it waited
		default:
			return nil, errno
		}
	}
}

// addrPort is the address that the kernel wrote: IPv4 as such, and no zone; the
// zero value for any other family.
func addrPort(a *syscall.RawSockaddrInet6) netip.AddrPort {
	switch a.Family {
	case syscall.AF_INET:
		a4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(a4.Addr), port(a4.Port))
	case syscall.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), port(a.Port))
	}
	return netip.AddrPort{}
}

// port turns the order of the network's bytes into the machine's.
func port(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}
