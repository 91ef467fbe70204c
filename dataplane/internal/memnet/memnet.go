package memnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// BufferSize is the number of bytes that are on their way in one direction
// before a writer blocks.
const BufferSize = 64 << 10

// Network connects dialers to listeners by address.
type Network struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*Listener
	nextPort  uint16
}

// New returns a network without listeners.
func New() *Network {
	return &Network{listeners: make(map[netip.AddrPort]*Listener), nextPort: 40000}
}

// Listen returns a listener of the address.
func (n *Network) Listen(addr netip.AddrPort) *Listener {
	l := &Listener{n: n, addr: addr, queue: make(chan net.Conn, 128), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

// Dial connects to a listener. Without one it is refused, as by TCP.
func (n *Network) Dial(addr netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.nextPort++
	local := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), n.nextPort)
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "mem", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if l == nil {
		return nil, refused
	}
	client, server := Pipe(local, addr)
	select {
	case l.queue <- server:
		return client, nil
	case <-l.done:
		return nil, refused
	}
}

// Listener is a net.Listener of a Network.
type Listener struct {
	n     *Network
	addr  netip.AddrPort
	queue chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.addr] == l {
			delete(l.n.listeners, l.addr)
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Pipe returns the two ends of a connection between two addresses.
func Pipe(a, b netip.AddrPort) (*Conn, *Conn) {
	ab, ba := newStream(), newStream()
	return &Conn{in: ba, out: ab, local: a, remote: b}, &Conn{in: ab, out: ba, local: b, remote: a}
}

// Conn is one end of a connection.
type Conn struct {
	in, out       *stream
	local, remote netip.AddrPort
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// CloseWrite ends the direction to the peer, as (*net.TCPConn).CloseWrite does.
func (c *Conn) CloseWrite() error {
	c.out.end(io.EOF, nil)
	return nil
}

// Close implements net.Conn: the peer reads what is on its way, then io.EOF;
// its writes are reset.
func (c *Conn) Close() error {
	c.out.end(io.EOF, net.ErrClosed)
	c.in.kill(net.ErrClosed, reset("write"))
	return nil
}

// Reset closes the connection as a TCP reset does: what is on its way is lost.
func (c *Conn) Reset() {
	c.out.kill(reset("read"), net.ErrClosed)
	c.in.kill(net.ErrClosed, reset("write"))
}

func reset(op string) error {
	return &net.OpError{Op: op, Net: "mem", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
}

// Alive reports whether the peer still holds the connection open.
func (c *Conn) Alive() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readErr == nil
}

// Broken reports whether the connection was reset, or is closed at this end.
func (c *Conn) Broken() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readErr != nil && c.in.readErr != io.EOF
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readers, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writers, t)
	return nil
}
