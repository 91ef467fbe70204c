package tcp

import (
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanSplice reports whether Splice may be called.
func CanSplice() bool { return true }

// pipeSize is asked for as the size of a pipe, in bytes. The kernel takes a page
// of it for each piece of a packet, however short.
const pipeSize = 1 << 20

// pipe is what bytes pass through on their way from one socket to another. It is
// empty between two calls of Splice.
type pipe struct {
	read, write int // its ends
	cleanup     runtime.Cleanup

	room  int // how many bytes are wanted next
	held  int // how many are in the pipe
	errno syscall.Errno

	onReadable, onWritable func(fd uintptr) bool // fill and empty, bound once
}

// pipes keeps those that are not in use, until the next but one collection.
var pipes sync.Pool

// borrow returns an empty pipe; nil: there are no descriptors for one.
func borrow() *pipe {
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

// giveBack ends the use of a pipe; with bytes in it it is not used again.
func (p *pipe) giveBack() {
	if p.held == 0 {
		pipes.Put(p)
		return
	}
	p.cleanup.Stop()
	closeBoth([2]int{p.read, p.write})
}

// fill is the callback of a read of the source.
func (p *pipe) fill(fd uintptr) bool {
	n, errno := splice(fd, uintptr(p.write), p.room)
	p.held, p.errno = n, errno
	return errno != syscall.EAGAIN // of the socket: the pipe is empty
}

// empty is the callback of a write to the destination.
func (p *pipe) empty(fd uintptr) bool {
	for p.held > 0 {
		n, errno := splice(uintptr(p.read), fd, p.held)
		if p.errno = errno; errno != 0 {
			return errno != syscall.EAGAIN
		}
		p.held -= n
	}
	return true
}

// splice is splice(2) between a socket and a pipe of which neither blocks.
func splice(from, to uintptr, most int) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(most), unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// Splice moves size bytes from one TCP connection to the other inside the kernel,
// or until one fails: an error is that of the side, and io.EOF as srcErr the end
// of the source's stream. What was taken from the source when the destination
// fails is lost, also when it fails because of its deadline. ErrNoPipe as srcErr
// says that nothing has happened.
func Splice(dst, src syscall.RawConn, size int64) (n int64, srcErr, dstErr error) {
	p := borrow()
	if p == nil {
		return 0, ErrNoPipe, nil
	}
	defer p.giveBack()
	for n < size {
		p.room = int(min(size-n, pipeSize))
		if err := p.outcome(src.Read(p.onReadable)); err != nil {
			return n, err, nil
		}
		took := p.held
		if took == 0 {
			return n, io.EOF, nil
		}
		err := p.outcome(dst.Write(p.onWritable))
		n += int64(took - p.held)
		if err != nil {
			return n, nil, err
		}
	}
	return n, nil, nil
}

// outcome is the error of an operation or, if that went well, of its callback.
func (p *pipe) outcome(err error) error {
	if err == nil && p.errno != 0 {
		err = os.NewSyscallError("splice", p.errno)
	}
	return err
}
