//go:build unix

package http1

import (
	"io"
	"os"
	"syscall"
	"time"
)

// rawPhase is where a raw read stands.
type rawPhase uint8

const (
	rawIdle      rawPhase = iota // waiting without a buffer
	rawCheck                     // reused: nothing may be readable before we write
	rawCheckOnly                 // the same, without waiting for an answer
	rawWait                      // the next readable bytes are what is waited for
)

// rawCallbacks are onReadable and onWritable, bound once.
type rawCallbacks struct {
	rawRead, rawSend func(fd uintptr) bool
}

// rawReader is the state of one raw read.
type rawReader struct {
	rawOut []byte // what to write before waiting
	inline Inline
	until  moment // the deadline of AwaitData
	rawNow moment
	phase  rawPhase
	rawErr error
}

// rawWriter is the same of one raw write.
type rawWriter struct {
	sending []byte // what is not written yet
	sendErr error
}

// bindRaw prepares reads on the file descriptor of a plain TCP connection.
func (c *Conn) bindRaw() {
	socket, ok := c.nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	c.raw = raw
	if c.rawRead == nil {
		c.rawRead, c.rawSend = c.onReadable, c.onWritable
	}
}

// onReadable is called by RawConn.Read: first at once, then whenever the
// descriptor may have become readable. It returns true when the read is over.
//
// The order matters: RawConn.Read forgets earlier readiness before its first
// call, so the descriptor is read before every wait: in rawCheck before the
// request is written that the awaited bytes answer.
func (c *Conn) onReadable(fd uintptr) bool {
	switch c.phase {
	case rawCheck, rawCheckOnly:
		if !c.rawRecv(fd) {
			return c.rawWrite()
		}
		c.r = c.w // what came unasked is no part of an answer
		c.rawErr = ErrStale
		return true
	case rawIdle:
		return c.rawServe(fd)
	default:
		return c.rawRecv(fd)
	}
}

// rawRecv reads what is there; false: nothing is. The buffer it reads into is
// given back when there was nothing to read.
func (c *Conn) rawRecv(fd uintptr) bool {
	c.room()
	for {
		n, errno := recv(fd, c.buf.b[c.w:])
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			if c.w == c.r && c.pin == 0 {
				c.buf.free()
				c.buf, c.r, c.w = nil, 0, 0
			}
			return false
		case errno != 0:
			c.rawErr = os.NewSyscallError("read", errno)
		case n == 0:
			c.rawErr = io.EOF
		default:
			c.got(n)
		}
		return true
	}
}

// onWritable is called by RawConn.Write: first at once, then whenever the
// descriptor may have become writable. It returns true when the write is over.
func (c *Conn) onWritable(fd uintptr) bool {
	for len(c.sending) > 0 {
		n, errno := send(fd, c.sending, c.final)
		switch errno {
		case 0:
			c.sending = c.sending[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			if c.writeArmed == 0 || c.writeBy != 0 {
				c.sendErr = c.armWrite(time.Now(), true)
			}
			return c.sendErr != nil
		default:
			c.sendErr = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

// rawWriteOnce is writeOnce on a plain TCP connection.
func (c *Conn) rawWriteOnce(p []byte) (int, error) {
	c.sending, c.sendErr = p, nil
	err := c.raw.Write(c.rawSend)
	if err == nil {
		err = c.sendErr
	}
	n := len(p) - len(c.sending)
	c.sending = nil
	return n, err
}

// rawFill is Fill on a plain TCP connection.
func (c *Conn) rawFill(deadline time.Time) error {
	c.phase = rawWait
	return c.rawLoop(deadline)
}

// rawWrite writes what is to be sent and goes on to wait for the answer; true
// means that nothing is to be waited for, or that the write failed.
func (c *Conn) rawWrite() bool {
	only := c.phase == rawCheckOnly
	c.phase = rawWait // also when the write fails: what it has sent is sent
	n, err := c.Write(c.rawOut, c.rawNow.time())
	c.rawOut = c.rawOut[n:]
	c.rawErr = err
	return err != nil || only
}

// endLook is when an idle connection is looked at once more after a request.
const endLook = time.Second

// rawAwait waits for bytes without holding a buffer.
func (c *Conn) rawAwait(deadline time.Time, inline Inline) error {
	c.phase, c.until, c.inline = rawIdle, momentOf(deadline), inline
	for {
		c.rawErr = nil
		err := c.raw.Read(c.rawRead)
		if err == nil {
			return c.rawErr
		}
		if err = c.readFailed(err, c.until.time()); err != nil {
			return err
		}
		if err = c.armRead(c.until.time()); err != nil {
			return err
		}
	}
}

// rawServe calls inline for what is there, time and again. It returns false, to
// wait, only when the descriptor had no more bytes at the last look: those that
// have come since then, or come, wake it. An end of the stream that had come
// with the last bytes does not, so the first wait is short, and a look follows.
// Only waiting needs a deadline: a short connection has none.
func (c *Conn) rawServe(fd uintptr) bool {
	for {
		if !c.rawRecv(fd) {
			c.rawErr = c.armRead(c.until.time())
			return c.rawErr != nil
		}
		more := c.full
		var look time.Time
		for {
			if c.rawErr != nil || c.inline == nil {
				return true
			}
			now, until, again := c.inline()
			if !again {
				return true
			}
			c.until, look = momentOf(until), now.Add(endLook)
			if c.w == c.r {
				break
			}
		}
		if !more {
			c.rawErr = c.armRead(look)
			return c.rawErr != nil
		}
	}
}

// sendGrace is the deadline of a RoundTrip whose own has passed already.
const sendGrace = 100 * time.Millisecond

// rawRoundTrip is RoundTrip on a plain TCP connection that is reused: three system calls where
// a check, a write and a read that has to wait would be four.
func (c *Conn) rawRoundTrip(out []byte, now, deadline time.Time) (sent int, err error) {
	c.phase, c.rawOut, c.rawNow = rawCheck, out, momentOf(now)
	for {
		err = c.rawLoop(deadline)
		if err != ErrTimeout || c.phase == rawWait {
			break
		}
		// The deadline had passed before anything was written. Whoever waits
		// for an answer must have asked.
		deadline = time.Now().Add(sendGrace)
	}
	sent = len(out) - len(c.rawOut)
	c.rawOut = nil
	return sent, err
}

// rawSendOnly is Send on a plain TCP connection that is reused.
func (c *Conn) rawSendOnly(out []byte, now time.Time) (sent int, err error) {
	c.phase, c.rawOut, c.rawNow = rawCheckOnly, out, momentOf(now)
	err = c.rawLoop(time.Time{})
	sent = len(out) - len(c.rawOut)
	c.rawOut = nil
	return sent, err
}

// rawLoop runs RawConn.Read until it is over for another reason than a deadline
// that fired too soon.
func (c *Conn) rawLoop(deadline time.Time) error {
	for {
		if err := c.armRead(deadline); err != nil {
			return err
		}
		c.rawErr = nil
		err := c.raw.Read(c.rawRead)
		if err == nil {
			return c.rawErr
		}
		if err = c.readFailed(err, deadline); err != nil {
			return err
		}
	}
}
