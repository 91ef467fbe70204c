package http1

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
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
// copied through user space (splice(2), on Linux): both ends are plain TCP,
// nothing is buffered, there is no framing to look at and enough to come.
func (b *Body) CanSplice(dst *Conn) bool {
	return tcp.CanSplice() && !b.done && !b.chunked && !b.copied && b.src.raw != nil && dst.raw != nil &&
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
	n, srcErr, dstErr = tcp.Splice(dst.raw, src.raw, step)
	b.advance(n)
	switch {
	case srcErr == tcp.ErrNoPipe:
		b.copied = true // which takes no descriptors
		return 0, nil, nil
	case errors.Is(dstErr, os.ErrDeadlineExceeded):
		return n, nil, ErrTimeout // and what was on its way is lost
	case dstErr != nil:
		return n, nil, dstErr
	case srcErr == nil:
		return n, b.end(), nil
	case srcErr == io.EOF:
		return n, b.readFailed(io.EOF), nil
	}
	if srcErr = src.readFailed(srcErr, deadline); srcErr == ErrTimeout && n > 0 {
		srcErr = nil
	}
	return n, srcErr, nil
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
