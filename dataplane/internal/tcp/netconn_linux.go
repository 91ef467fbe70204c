package tcp

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (n int, err error) {
	p := c.polled.Load()
	if p == nil {
		n, p, err = c.readBare(b)
	}
	if p != nil && err == nil {
		n, err = p.file.Read(b)
	}
	return n, c.failed("read", err)
}

// readBare is Read on the bare descriptor. With p it is to be done there.
func (c *Conn) readBare(b []byte) (n int, p *polled, err error) {
	var errno syscall.Errno
	p, err = c.try(&c.readBy, func(fd uintptr) bool {
		n, errno = ignoringEINTR(syscall.Read, fd, b)
		return errno != syscall.EAGAIN
	})
	switch {
	case p != nil || err != nil:
	case errno != 0:
		err = os.NewSyscallError("read", errno)
	case n == 0 && len(b) > 0:
		err = io.EOF
	}
	return n, p, err
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (n int, err error) {
	p := c.polled.Load()
	if p == nil {
		n, p, err = c.writeBare(b)
	}
	if p != nil && err == nil {
		var more int
		more, err = p.file.Write(b[n:])
		n += more
	}
	return n, c.failed("write", err)
}

// writeBare is Write on the bare descriptor. With p the rest is to be written
// there.
func (c *Conn) writeBare(b []byte) (n int, p *polled, err error) {
	var errno syscall.Errno
	p, err = c.try(&c.writeBy, func(fd uintptr) bool {
		for n < len(b) && errno == 0 {
			var more int
			more, errno = ignoringEINTR(syscall.Write, fd, b[n:])
			n += more
		}
		return errno != syscall.EAGAIN
	})
	if p == nil && err == nil && errno != 0 {
		err = os.NewSyscallError("write", errno)
	}
	return n, p, err
}

// ignoringEINTR calls read(2) or write(2) through package syscall, which tells
// the race detector.
func ignoringEINTR(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, err := call(int(fd), b)
		if err == nil {
			return n, 0
		}
		errno, _ := err.(syscall.Errno)
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// failed dresses an error of Read or Write as package net does; io.EOF stays.
func (c *Conn) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: c.because(err)}
}

// CloseWrite tells the peer that nothing more will be written.
func (c *Conn) CloseWrite() error {
	return c.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetLinger says what Close does to bytes that are not sent yet: with 0 they are
// dropped and the connection is reset, with less than 0 they are sent, as
// without this call. To wait for them in Close (more than 0) is not offered.
func (c *Conn) SetLinger(sec int) error {
	l := unix.Linger{}
	switch {
	case sec > 0:
		return errors.ErrUnsupported
	case sec == 0:
		l.Onoff = 1
	}
	return c.control("setsockopt", func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l) })
}

// LocalAddr implements net.Conn: nobody has asked the kernel before.
func (c *Conn) LocalAddr() net.Addr {
	addr := new(net.TCPAddr)
	_ = c.control("getsockname", func(fd int) error { // else it is closed, and has none
		at, err := unix.Getsockname(fd)
		switch at := at.(type) {
		case *unix.SockaddrInet4:
			addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)))
		case *unix.SockaddrInet6:
			addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom16(at.Addr).Unmap(), uint16(at.Port)))
		}
		return err
	})
	return addr
}

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer) }

// Peer is the address of the peer: an IPv4 one as such, and without a zone.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

func (c *Conn) control(call string, f func(fd int) error) error {
	var err error
	if closed := (*rawConn)(c).Control(func(fd uintptr) { err = f(int(fd)) }); closed != nil {
		return closed
	}
	return os.NewSyscallError(call, err)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, &c.readBy, (*os.File).SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, &c.writeBy, (*os.File).SetWriteDeadline)
}

// setDeadline must not undo what Close does to end waits: hence the lock.
func (c *Conn) setDeadline(t time.Time, by *moment, set func(*os.File, time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed() {
		return net.ErrClosed
	}
	if p := c.polled.Load(); p != nil {
		return c.because(set(p.file, t))
	}
	by.set(t)
	return nil
}
