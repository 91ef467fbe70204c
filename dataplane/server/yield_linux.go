package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// yield has the kernel give new connections to the other processes that share the
// listener's port, if there are any. A handshake belongs to a listener from its first
// packet on, and one that is under way when that is closed is lost.
//
// Who gets a connection can be said by a program of the kernel, as a number among the
// sockets that share the port. Which number is whose nobody tells, so it is tried out:
// 0 is another one's; or it is ours, and then 1 is another one's, unless we are alone,
// where the kernel heeds no number but 0. wait is how long either look takes.
func (s *Server) yield(ctx context.Context, l net.Listener, wait time.Duration) {
	if wait <= 0 {
		return // there is no time for a handshake to end, either
	}
	for number := range uint32(2) {
		if steer(l, number) != nil {
			return
		}
		here, err := s.reached(ctx, l, wait)
		if err != nil {
			break
		}
		if !here {
			s.log.Info("new connections go to another process that shares the address", "address", l.Addr().String())
			return
		}
	}
	unsteer(l)
}

// reached connects to the listener's address and reports whether it is this process
// that gets the connection. It returns an error when that cannot be told.
func (s *Server) reached(ctx context.Context, l net.Listener, wait time.Duration) (here bool, err error) {
	to := l.Addr().(*net.TCPAddr).AddrPort()
	if to.Addr().IsUnspecified() { // there may be no ::1 where it is [::]
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	d := net.Dialer{Timeout: wait}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return false, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // ends the wait
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false, err
	}
	if _, err = c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, errors.New("it was turned away")
	}
	return s.has(c.LocalAddr().(*net.TCPAddr).AddrPort()), nil
}

// has reports whether a connection from that address is open.
func (s *Server) has(from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.first; c != nil; c = c.next {
		if remote(c.nc) == from {
			return true
		}
	}
	return false
}

// steer has all new connections to the port of a listener go to the socket of that
// number among those that share it, whichever process has that. Where there is no such
// number, the kernel spreads them.
func steer(l net.Listener, number uint32) error {
	program := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: number}}
	return onSocket(l, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &program[0]})
	})
}

// unsteer undoes steer, whoever did it: a process that has ended since, say.
func unsteer(l net.Listener) {
	_ = onSocket(l, func(fd int) error { // an error: nobody did
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	})
}

func onSocket(l net.Listener, f func(fd int) error) error {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	if failed := raw.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}
