package http1

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors of a Conn, beside io.EOF, *Error and those of the net.Conn below.
var (
	// ErrTimeout: the deadline of a call passed.
	ErrTimeout = errors.New("http1: deadline passed")
	// ErrLate: the time of WriteBy passed before all was written.
	ErrLate = errors.New("http1: writing took too long")
	// ErrInterrupted: Interrupt was called.
	ErrInterrupted = errors.New("http1: interrupted")
	// ErrStale: a connection that was kept for reuse had been closed, or sent
	// something unasked, before anything of the new request was written to it.
	ErrStale = errors.New("http1: connection closed while idle")
)

// Conn is one HTTP/1 connection, of a client or to an endpoint, with the bytes
// read from it and not consumed yet. It belongs to one goroutine at a time; only
// Interrupt, Close and Alive may be called from others.
//
// Deadlines are armed lazily: a deadline that is already armed and earlier than
// the one wanted stays, and when it fires too soon it is armed anew. So a busy
// connection touches the runtime's timers once per timeout, not per request.
type Conn struct {
	nc  net.Conn
	raw syscall.RawConn // non-nil for plain TCP

	buf  *buffer // nil: nothing is unread and nothing is pinned
	r, w int     // buf.b[r:w] is unread
	pin  int     // buf.b[:pin] is pinned
	old  *buffer // a pinned buffer that buf has outgrown

	writeStall time.Duration
	readArmed  moment
	writeArmed moment
	writeBy    moment
	moved      moment // when the peer took something last, as far as was looked
	acked      uint64 // bytes that the peer had taken at the last look

	full        bool // the last read filled all the room there was
	final       bool // nothing follows what is written but the end of the stream
	interrupted atomic.Bool

	onClose  func() // nil: there is nothing to do
	uncounts sync.Once

	rawCallbacks
	rawReader
	rawWriter
}

// moment is a time.Time as a Conn keeps it: a third of the size, of which there
// are as many as idle connections. 0 stands for the zero Time.
type moment int64

var epoch = time.Now()

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	if m := moment(t.Sub(epoch)); m != 0 {
		return m
	}
	return 1
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(m))
}

// NewConn wraps a connection. A write fails when the peer takes nothing for
// writeStall, or for as little as half of it; 0 is no bound. Of plain TCP on Linux
// it is the peer's kernel that takes, a byte being enough; else it is ours, or the
// connection below, which may do so in pieces that are large.
func NewConn(nc net.Conn, writeStall time.Duration) *Conn {
	c := new(Conn)
	c.Reset(nc, writeStall)
	return c
}

// Reset makes c what NewConn returns, so that it can be used for one connection
// after the other. The one before must be closed, its buffers freed and nobody
// else hold c. A nil nc lets go of the one before.
func (c *Conn) Reset(nc net.Conn, writeStall time.Duration) {
	*c = Conn{nc: nc, writeStall: writeStall, rawCallbacks: c.rawCallbacks}
	c.bindRaw()
}

// OnClose has f called when the connection is closed or Uncount is called,
// whatever comes first, once. It comes before all other use of the connection.
func (c *Conn) OnClose(f func()) { c.onClose = f }

// Uncount calls what OnClose was given, unless that has happened.
func (c *Conn) Uncount() {
	if c.onClose != nil {
		c.uncounts.Do(c.onClose)
	}
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Buffered returns the bytes that were read and not consumed. The slice is
// valid until the next call that reads.
func (c *Conn) Buffered() []byte {
	if c.buf == nil {
		return nil
	}
	return c.buf.b[c.r:c.w]
}

// consume marks n unread bytes as read.
func (c *Conn) consume(n int) { c.r += n }

// pinHead keeps everything consumed so far in place until Release, so that
// views into it stay valid while a body is read.
func (c *Conn) pinHead() { c.pin = c.r }

// Release ends the life of all views into the connection's buffers. Bytes of a
// next message stay; with none, the connection holds no buffer.
func (c *Conn) Release() {
	if c.old != nil {
		c.old.free()
		c.old = nil
	}
	c.pin = 0
	if c.buf == nil {
		return
	}
	c.full = false
	if c.r == c.w {
		c.buf.free()
		c.buf, c.r, c.w = nil, 0, 0
		return
	}
	if c.r > 0 {
		c.w = copy(c.buf.b, c.buf.b[c.r:c.w])
		c.r = 0
	}
}

// room makes sure that there is space to read into: at least an eighth of the
// buffer, and a larger one when the last read filled what there was. Pinned
// bytes stay where they are.
func (c *Conn) room() {
	if c.buf == nil {
		c.buf = getBuffer(smallBuffer)
		return
	}
	if c.r == c.w {
		c.r, c.w = c.pin, c.pin
	}
	size := len(c.buf.b)
	grow := c.full && size < largeBuffer
	if size-c.w >= size/8 && !grow {
		return
	}
	if c.pin == 0 && c.r >= size/2 && !grow {
		c.w = copy(c.buf.b, c.buf.b[c.r:c.w])
		c.r = 0
		return
	}
	next := getBuffer(max(4*size, c.w-c.r+smallBuffer))
	n := copy(next.b, c.buf.b[c.r:c.w])
	switch {
	case c.pin == 0:
		c.buf.free()
	case c.old == nil:
		c.old = c.buf
	default:
		// The head is pinned in old already; this one held body bytes only.
		c.buf.free()
	}
	c.buf, c.r, c.w, c.pin, c.full = next, 0, n, 0, false
}

// Fill reads more bytes behind those that are buffered. It blocks until there
// are some, the deadline passes (ErrTimeout), the peer has closed (io.EOF) or
// the connection is interrupted (ErrInterrupted). A zero deadline is none.
func (c *Conn) Fill(deadline time.Time) error {
	if c.raw != nil {
		return c.rawFill(deadline)
	}
	c.room()
	for {
		if err := c.armRead(deadline); err != nil {
			return err
		}
		n, err := c.nc.Read(c.buf.b[c.w:])
		if n > 0 {
			c.got(n)
			return nil
		}
		if err == nil {
			continue
		}
		if err = c.readFailed(err, deadline); err != nil {
			return err
		}
	}
}

// got accounts for n bytes read behind the buffered ones.
func (c *Conn) got(n int) {
	c.w += n
	c.full = c.w == len(c.buf.b)
}

// Inline does something with the bytes that are buffered. With again it returns
// the time at its end, and until when to wait for more.
type Inline func() (now, until time.Time, again bool)

// AwaitData blocks until at least one byte is buffered. On plain TCP it holds
// no buffer while it waits, and calls inline, unless that is nil, as soon as
// there are bytes: inline may do with them what needs no reading from this
// connection. When it returns again, AwaitData goes on to wait until the new
// deadline, which saves the system call that would find nothing to read; else
// AwaitData returns. Close may wait for inline to return.
func (c *Conn) AwaitData(deadline time.Time, inline Inline) error {
	if c.w > c.r {
		return nil
	}
	if c.raw == nil || c.buf != nil {
		return c.Fill(deadline)
	}
	return c.rawAwait(deadline, inline)
}

// RoundTrip writes out and waits for the first bytes of the answer. On a
// connection that is reused it first makes sure that the peer has neither
// closed it nor sent anything unasked: ErrStale says that nothing was written.
// sent is the number of bytes of out that were written. now saves a look at the
// clock.
func (c *Conn) RoundTrip(out []byte, reused bool, now, deadline time.Time) (sent int, err error) {
	if c.raw != nil && reused {
		return c.rawRoundTrip(out, now, deadline)
	}
	if reused && !c.Alive() {
		return 0, ErrStale
	}
	if sent, err = c.Write(out, now); err != nil {
		return sent, err
	}
	return sent, c.Fill(deadline)
}

// Send is RoundTrip without the waiting.
func (c *Conn) Send(out []byte, reused bool, now time.Time) (sent int, err error) {
	if c.raw != nil && reused {
		return c.rawSendOnly(out, now)
	}
	if reused && !c.Alive() {
		return 0, ErrStale
	}
	return c.Write(out, now)
}

// armRead makes sure that a read ends at the deadline at the latest.
func (c *Conn) armRead(deadline time.Time) error {
	if !deadline.IsZero() && (c.readArmed == 0 || c.readArmed > momentOf(deadline)) {
		if err := c.nc.SetReadDeadline(deadline); err != nil {
			return err
		}
		c.readArmed = momentOf(deadline)
	}
	// After arming, so that an Interrupt in between is seen here or wakes the
	// read.
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	return nil
}

// readFailed judges the error of a read: nil means that an armed deadline fired
// too soon and the read is to be tried again.
func (c *Conn) readFailed(err error, deadline time.Time) error {
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.readArmed = 0 // it has fired: the next read arms anew
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		return ErrTimeout
	}
	if deadline.IsZero() {
		return c.nc.SetReadDeadline(time.Time{})
	}
	return nil
}

// Write writes p whole, or fails with ErrTimeout when the peer takes nothing for
// too long, or with ErrLate: see WriteBy. now saves a look at the clock.
//
// It looks up every half of writeStall at least: what the peer took since the
// look before may have been taken right after that.
func (c *Conn) Write(p []byte, now time.Time) (int, error) {
	c.moved = momentOf(now)
	return c.WriteRest(p, now)
}

// WriteRest is Write for what one before it has left that ended with ErrLate: for
// how long the peer has taken nothing counts on.
func (c *Conn) WriteRest(p []byte, now time.Time) (int, error) {
	done := 0
	for {
		if c.raw == nil || c.writeArmed != 0 { // else when it has to wait
			if err := c.armWrite(now, c.raw == nil); err != nil {
				return done, err
			}
		}
		n, err := c.writeOnce(p[done:])
		done += n
		if err == nil {
			return done, nil
		}
		if now, err = c.writeFailed(err, n > 0); err != nil {
			return done, err
		}
	}
}

// TookAt is when the peer took something of what is written to it last, as far as
// writes that had to wait have looked.
func (c *Conn) TookAt() time.Time { return c.moved.time() }

// writeFailed judges the error of a write: nil means that a deadline fired, but
// only to look, and that the write is to go on. The peer has taken something since
// the last look when took says so or the kernel does.
func (c *Conn) writeFailed(err error, took bool) (now time.Time, _ error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return now, err
	}
	now = time.Now()
	at := momentOf(now)
	if c.taken() || took {
		c.moved = at
	}
	switch {
	case c.writeStall > 0 && at-c.moved >= moment(c.writeStall/2):
		return now, ErrTimeout
	case c.writeBy != 0 && at >= c.writeBy:
		return now, ErrLate
	}
	return now, nil
}

// taken reports whether the peer has taken bytes since the last look, as far as
// the kernel tells. The first look at a wait compares with some wait before it,
// and so may be too kind.
func (c *Conn) taken() bool {
	acked := c.ackedBytes()
	more := acked > c.acked
	c.acked = acked
	return more
}

// WriteFinal is Write for bytes behind which the connection is closed at once:
// where it can be, they leave together with the end of the stream, which is a
// packet less for both sides.
func (c *Conn) WriteFinal(p []byte, now time.Time) (int, error) {
	c.final = true
	n, err := c.Write(p, now)
	c.final = false
	return n, err
}

// writeOnce writes until p is written or the armed deadline passes.
func (c *Conn) writeOnce(p []byte) (int, error) {
	if c.raw != nil {
		return c.rawWriteOnce(p)
	}
	return c.nc.Write(p)
}

// WriteBy bounds all writes from now on: those that have to wait end with ErrLate
// at t. The zero time is no bound.
func (c *Conn) WriteBy(t time.Time) { c.writeBy = momentOf(t) }

// armWrite makes sure that a write looks up between a quarter and half of
// writeStall from now. One that waits looks up at writeBy as well.
func (c *Conn) armWrite(now time.Time, waits bool) error {
	var until time.Time
	if c.writeStall > 0 {
		until = now.Add(c.writeStall / 2)
	}
	if by := c.writeBy.time(); waits && c.writeBy != 0 && (until.IsZero() || by.Before(until)) {
		until = by
	}
	switch want := momentOf(until); {
	case c.writeArmed == want:
		return nil
	case c.writeStall > 0 && c.writeArmed != 0 && c.writeArmed <= want && c.writeArmed-momentOf(now) >= moment(c.writeStall/4):
		return nil
	default:
		c.writeArmed = want
	}
	return c.nc.SetWriteDeadline(until)
}

// Interrupt makes the current and every later read fail with ErrInterrupted.
// It may be called from any goroutine.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // a closed connection needs no interrupting
}

// Resume undoes Interrupt. The goroutine that owns the connection calls it.
func (c *Conn) Resume() {
	if c.interrupted.Swap(false) {
		c.readArmed = 0 // the deadline in the past is replaced or lifted by the next read
	}
}

// Abort closes the connection so that the peer cannot take what it has received
// for complete: with a reset where that can be.
func (c *Conn) Abort() {
	switch nc := c.nc.(type) {
	case interface{ SetLinger(sec int) error }:
		_ = nc.SetLinger(0) // else it is closed the other way
	case interface{ Reset() }:
		nc.Reset()
	}
	_ = c.Close() // it is being cut
}

// Close closes the connection below. The buffers stay with their owner, who
// gives them back with Free.
func (c *Conn) Close() error {
	c.Uncount()
	return c.nc.Close()
}

// Free gives all buffers back, read or not. Views into them end here.
func (c *Conn) Free() {
	c.r = c.w
	c.Release()
}

// CloseWrite tells the peer that nothing more will be written.
func (c *Conn) CloseWrite() error {
	if hc, ok := c.nc.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return nil
}
