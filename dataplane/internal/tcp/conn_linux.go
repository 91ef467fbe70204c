package tcp

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a TCP connection that was accepted. It begins as a bare descriptor,
// and everything is tried on that; the first operation that has to wait hands it
// to the runtime's poller, and from then on all operations go that way. So a
// connection whose request is there when it is accepted, and which is closed
// after the answer, never costs what waiting costs.
//
//	bare ─→ polled     an operation has to wait
//	bare, polled ─→ closed
//
// Whoever uses the bare descriptor counts as its user meanwhile. Close forbids
// new users, and the last one closes the descriptor, so that none ever reaches
// a descriptor that the kernel has given to another file since. The users of a
// polled one are counted by package os.
//
// A Conn that is dropped without Close loses its descriptor for good while it is
// bare. The server closes every one; a finalizer would cost as much as a good
// part of what is saved.
type Conn struct {
	fd     int
	use    atomic.Uint32 // closedBit, and userUnit for every user of the bare descriptor
	peer   netip.AddrPort
	polled atomic.Pointer[polled]

	mu sync.Mutex // guards becoming polled, and the deadlines before that
	// When reads and writes end, as long as the descriptor is bare.
	readBy, writeBy moment
}

// The bits of Conn.use: one forbids new users, the others count them.
const (
	closedBit = 1
	userUnit  = 2
)

// polled is a descriptor that the runtime's poller knows.
type polled struct {
	file *os.File
	raw  syscall.RawConn
}

// moment is a deadline in ns since epoch; 0 is none.
type moment struct{ atomic.Int64 }

var epoch = time.Now()

func (m *moment) set(t time.Time) {
	var at int64
	if !t.IsZero() {
		if at = int64(t.Sub(epoch)); at == 0 {
			at = 1
		}
	}
	m.Store(at)
}

func (m *moment) get() time.Time {
	if at := m.Load(); at != 0 {
		return epoch.Add(time.Duration(at))
	}
	return time.Time{}
}

func (m *moment) passed() bool {
	at := m.Load()
	return at != 0 && at <= int64(time.Since(epoch))
}

// enter makes the caller a user of the bare descriptor, until leave; false: the
// connection is closed.
func (c *Conn) enter() bool {
	for {
		use := c.use.Load()
		if use&closedBit != 0 {
			return false
		}
		if c.use.CompareAndSwap(use, use+userUnit) {
			return true
		}
	}
}

func (c *Conn) leave() {
	if c.use.Add(^uint32(userUnit-1)) != closedBit {
		return
	}
	if c.polled.Load() == nil {
		_ = c.shut() // nobody is there to be told
		return
	}
	// Closing waits for those who use it as a polled one, and one of these may
	// wait for us.
	go func() { _ = c.shut() }() // likewise
}

// shut closes the descriptor, once there are no users of the bare one.
func (c *Conn) shut() error {
	if p := c.polled.Load(); p != nil {
		return p.file.Close()
	}
	// Not syscall.Close: a socket that does not block is closed without waiting,
	// unless it lingers for some time, and these never do.
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(c.fd), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("close", errno)
	}
	return nil
}

// Close implements net.Conn: waits end with net.ErrClosed. It may wait for an
// operation that is under way, but not for long, except for a callback of
// SyscallConn.
func (c *Conn) Close() error {
	switch use := c.use.Or(closedBit); {
	case use&closedBit != 0:
		return net.ErrClosed
	case use == 0:
		return c.shut()
	}
	// The last user closes the descriptor.
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.polled.Load(); p != nil {
		_ = p.file.SetDeadline(time.Unix(1, 0)) // ends what waits, which else was closed meanwhile
	}
	return nil
}

func (c *Conn) closed() bool { return c.use.Load()&closedBit != 0 }

// poll makes the connection a polled one. The caller is a user.
//
// What has happened on the descriptor so far is reported as if it happened now.
// But it may be before the caller gets to wait, and beginning an operation on a
// polled descriptor forgets it: the caller has to try once more.
func (c *Conn) poll() (*polled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.polled.Load(); p != nil {
		return p, nil
	}
	if c.closed() {
		return nil, net.ErrClosed
	}
	file := os.NewFile(uintptr(c.fd), "") // which polls it, as it does not block
	raw, err := file.SyscallConn()        // no error: there is a file
	p := &polled{file, raw}
	c.polled.Store(p)
	if t := c.readBy.get(); !t.IsZero() && err == nil {
		err = file.SetReadDeadline(t)
	}
	if t := c.writeBy.get(); !t.IsZero() && err == nil {
		err = file.SetWriteDeadline(t)
	}
	return p, err
}

// SyscallConn implements syscall.Conn. The callbacks of Read, Write and Control
// may use the connection as everybody else, and wait; but not read in that of
// Read, nor write in that of Write, nor close it in any. A callback of Read or
// Write that returns false may be called again at once.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return (*rawConn)(c), nil }

// rawConn is a Conn as a syscall.RawConn.
type rawConn Conn

// Read implements syscall.RawConn.
func (r *rawConn) Read(f func(fd uintptr) bool) error {
	c := (*Conn)(r)
	p, err := c.try(&c.readBy, f)
	if p == nil || err != nil {
		return err
	}
	return c.because(p.raw.Read(f))
}

// Write implements syscall.RawConn.
func (r *rawConn) Write(f func(fd uintptr) bool) error {
	c := (*Conn)(r)
	p, err := c.try(&c.writeBy, f)
	if p == nil || err != nil {
		return err
	}
	return c.because(p.raw.Write(f))
}

// Control implements syscall.RawConn.
func (r *rawConn) Control(f func(fd uintptr)) error {
	c := (*Conn)(r)
	p := c.polled.Load()
	switch {
	case c.closed(): // but it may not have been shut yet
		return net.ErrClosed
	case p != nil:
		return c.because(p.raw.Control(f))
	case !c.enter():
		return net.ErrClosed
	}
	defer c.leave()
	f(uintptr(c.fd))
	return nil
}

// try calls f on the bare descriptor and returns nil when it is done with that;
// else how it is to go on, as a polled one. A read is tried twice, and others go
// first in between: a request that is not there when its connection is accepted is
// on its way as a rule, and there by then if the process is busy, which is when it
// counts.
func (c *Conn) try(by *moment, f func(fd uintptr) bool) (*polled, error) {
	if p := c.polled.Load(); p != nil {
		return p, nil
	}
	if !c.enter() {
		return nil, net.ErrClosed
	}
	defer c.leave()
	if by.passed() {
		return nil, os.ErrDeadlineExceeded
	}
	if f(uintptr(c.fd)) {
		return nil, nil
	}
	if by == &c.readBy {
		runtime.Gosched()
		if !c.closed() && f(uintptr(c.fd)) {
			return nil, nil
		}
	}
	return c.poll()
}

// because is the error of an operation on a polled connection, or that it is
// closed, which is said in other words there.
func (c *Conn) because(err error) error {
	if err != nil && c.closed() {
		return net.ErrClosed
	}
	return err
}
