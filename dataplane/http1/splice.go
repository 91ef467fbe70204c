package http1

import "time"

const (
	// spliceMin is the least number of bytes to come for which moving them
	// inside the kernel is worth its system calls.
	spliceMin = 32 << 10
	// SpliceStep is how many bytes one call moves at most.
	SpliceStep = 128 << 10
)

// CanSplice reports whether the rest of the body can go to dst without being
// copied through user space (splice(2), on Linux): both ends are plain TCP,
// nothing is buffered, there is no framing to look at and enough to come.
func (b *Body) CanSplice(dst *Conn) bool {
	return splices && !b.done && !b.chunked && b.src.raw != nil && dst.raw != nil &&
		(b.left >= spliceMin || b.left == UntilClose && b.limit == 0) && len(b.src.Buffered()) == 0
}

// Splice moves the next bytes of the body to dst, for which CanSplice must hold,
// and returns how many. An error belongs to the side that failed; io.EOF as
// srcErr comes with or after the last bytes. The deadline is that of the source;
// when it passes while bytes still arrive it is no error.
func (b *Body) Splice(dst *Conn, deadline time.Time) (n int64, srcErr, dstErr error) {
	return b.splice(dst, deadline)
}
