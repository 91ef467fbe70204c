package http1

import (
	"errors"
	"io"
	"os"
	"time"
)

const (
	// spliceMin is the least number of bytes to come for which moving them
	// inside the kernel is worth its system calls.
	spliceMin = 32 << 10
	// SpliceStep is how many bytes one call moves at most. What a call has taken
	// from the source is lost when the deadline of its writes passes, so it is no
	// more than a reader of slowReader takes within that, or leastStep.
	SpliceStep = 128 << 10
	leastStep  = 16 << 10
	slowReader = 5 << 10 // bytes per second
)

// step is how many bytes a splice into the connection moves.
func (c *Conn) step() int64 {
	if c.writeStall <= 0 {
		return SpliceStep
	}
	return min(SpliceStep, max(leastStep, int64(c.writeStall/2)*slowReader/int64(time.Second)))
}

// CanSplice reports whether the rest of the body can go to dst without being
// copied through user space (splice(2) on Linux): both ends are plain TCP,
// nothing is buffered, there is no framing to look at and enough to come.
func (b *Body) CanSplice(dst *Conn) bool {
	return !b.done && !b.chunked && b.src.tcp != nil && dst.tcp != nil &&
		(b.left >= spliceMin || b.left == UntilClose && b.limit == 0) && len(b.src.Buffered()) == 0
}

// Splice moves the next bytes of the body to dst, for which CanSplice must hold,
// and returns how many. An error belongs to the side that failed; io.EOF as
// srcErr comes with or after the last bytes. A deadline that passes while bytes
// still arrive is no error. It may return early with nothing moved and no error.
func (b *Body) Splice(dst *Conn, now, deadline time.Time) (n int64, srcErr, dstErr error) {
	src := b.src
	step := dst.step()
	if b.left >= 0 {
		step = min(step, b.left)
	}
	if err := src.armRead(dst.spliceLook(now, deadline)); err != nil {
		return 0, err, nil
	}
	if err := dst.armWrite(now, dst.writeStall/2, dst.writeStall); err != nil {
		return 0, nil, err
	}
	if dst.limited == nil {
		dst.limited = new(io.LimitedReader)
	}
	*dst.limited = io.LimitedReader{R: src.tcp, N: step}
	n, err := dst.tcp.ReadFrom(dst.limited)
	b.advance(n)
	switch {
	case err == nil && n < step:
		return n, b.readFailed(io.EOF), nil
	case err == nil:
		return n, b.end(), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return b.spliceTimeout(dst, n, err, deadline)
	case src.interrupted.Load():
		return n, ErrInterrupted, nil
	case !dst.Alive(), src.Alive(): // unread bytes may hide that dst was reset
		return n, nil, err
	default:
		return n, err, nil
	}
}

// spliceLook is when a splice that wants to wait until deadline has to look up,
// so that the deadline armed for its writes has not passed before they begin.
func (c *Conn) spliceLook(now, deadline time.Time) time.Time {
	if c.writeStall <= 0 {
		return deadline
	}
	look := now.Add(c.writeStall / 4)
	if !deadline.IsZero() && deadline.Before(look) {
		return deadline
	}
	return look
}

// spliceTimeout finds out whose deadline ended a splice.
func (b *Body) spliceTimeout(dst *Conn, n int64, err error, deadline time.Time) (int64, error, error) {
	if now := time.Now(); dst.writeStall > 0 && momentOf(now) >= dst.writeArmed {
		return n, nil, ErrTimeout // and what was on its way is lost
	}
	err = b.src.readFailed(err, deadline)
	if err == ErrTimeout && n > 0 {
		return n, nil, nil
	}
	return n, err, nil
}
