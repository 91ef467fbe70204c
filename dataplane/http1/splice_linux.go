package http1

import (
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const splices = true

// spliceLook is how long a splice goes on for more once it has moved something, at
// most: the caller has to know when bytes passed last.
const spliceLook = time.Second

// lookBefore is when a splice that has moved something now comes back: well before
// the deadline, which tells how soon it matters.
func lookBefore(deadline, now time.Time) time.Time {
	if deadline.IsZero() {
		return now.Add(spliceLook)
	}
	return now.Add(min(spliceLook, deadline.Sub(now)/4))
}

// pipeSize is asked for as the size of a pipe in bytes. The kernel fills a page
// of it with one piece of a packet, however short.
const pipeSize = 1 << 20

// pipe is what bytes pass through on their way from one socket to another. It
// outlives the deadlines of both, so that nothing is lost when one fires. It is
// empty when it is not in use.
type pipe struct {
	read, write int // its ends
	cleanup     runtime.Cleanup

	want int // how many bytes are to be taken from the source
	held int // how many are in the pipe
	err  error

	onReadable, onWritable func(fd uintptr) bool // fill and empty, bound once
}

// pipes keeps those that are not in use, until the next but one collection.
var pipes sync.Pool

// borrowPipe returns an empty pipe; nil: no descriptors are left.
func borrowPipe() *pipe {
	if p, ok := pipes.Get().(*pipe); ok {
		return p
	}
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeSize) // a smaller one works as well, in more steps
	p := &pipe{read: ends[0], write: ends[1]}
	p.onReadable, p.onWritable = p.fill, p.empty
	p.cleanup = runtime.AddCleanup(p, closeBoth, ends)
	return p
}

func closeBoth(ends [2]int) {
	_ = unix.Close(ends[0]) // nothing can be done
	_ = unix.Close(ends[1]) // about either
}

// giveBack ends the use of a pipe. What a transfer that has failed has left in it
// goes with it.
func (p *pipe) giveBack() {
	if p.held == 0 {
		pipes.Put(p)
		return
	}
	p.cleanup.Stop()
	closeBoth([2]int{p.read, p.write})
}

// fill takes bytes from the source. It is the callback of RawConn.Read.
func (p *pipe) fill(fd uintptr) bool {
	p.held, p.err = splice(int(fd), p.write, p.want)
	return p.err != syscall.EAGAIN // of the socket, as the pipe is empty
}

// empty gives the destination what is in the pipe. It is the callback of
// RawConn.Write.
func (p *pipe) empty(fd uintptr) bool {
	for p.held > 0 {
		var n int
		if n, p.err = splice(p.read, int(fd), p.held); p.err != nil {
			return p.err != syscall.EAGAIN
		}
		p.held -= n
	}
	return true
}

// splice is splice(2) between a socket and a pipe of which neither blocks, made
// past the scheduler as recv and send are.
func splice(from, to, most int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// splice is Splice.
func (b *Body) splice(dst *Conn, deadline time.Time) (n int64, srcErr, dstErr error) {
	p := borrowPipe()
	if p == nil {
		return b.copy(dst, deadline)
	}
	defer p.giveBack()
	step := int64(SpliceStep)
	if b.left >= 0 {
		step = min(step, b.left)
	}
	for n < step {
		p.want = int(step - n)
		switch err := b.src.fillPipe(p, deadline); {
		case err == ErrTimeout && n > 0:
			return n, nil, nil
		case err != nil:
			return n, b.readFailed(err), nil
		}
		now := time.Now()
		if n == 0 {
			deadline = lookBefore(deadline, now)
		}
		sent, err := dst.emptyPipe(p, now)
		n += int64(sent)
		b.advance(int64(sent))
		if err != nil {
			return n, nil, err
		}
	}
	return n, b.end(), nil
}

// copy is splice without a pipe.
func (b *Body) copy(dst *Conn, deadline time.Time) (n int64, srcErr, dstErr error) {
	p, srcErr := b.Next(deadline)
	if len(p) > 0 {
		_, dstErr = dst.Write(p, time.Now())
	}
	return int64(len(p)), srcErr, dstErr
}

// fillPipe waits for bytes until the deadline and takes them into the pipe.
func (c *Conn) fillPipe(p *pipe, deadline time.Time) error {
	for {
		if err := c.armRead(deadline); err != nil {
			return err
		}
		err := c.raw.Read(p.onReadable)
		switch {
		case err != nil:
			if err = c.readFailed(err, deadline); err != nil {
				return err
			}
		case p.err != nil:
			return os.NewSyscallError("splice", p.err)
		case p.held == 0:
			return io.EOF
		default:
			return nil
		}
	}
}

// emptyPipe is Write for what is in the pipe.
func (c *Conn) emptyPipe(p *pipe, now time.Time) (n int, err error) {
	all := p.held
	c.moved = momentOf(now)
	for {
		if err = c.armWrite(now, true); err != nil {
			return all - p.held, err
		}
		before := p.held
		if err = c.raw.Write(p.onWritable); err == nil {
			return all - p.held, os.NewSyscallError("splice", p.err)
		}
		if now, err = c.writeFailed(err, p.held < before); err != nil {
			return all - p.held, err
		}
	}
}
