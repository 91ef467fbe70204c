//go:build !linux

package tcp

import "syscall"

// CanSplice reports whether Splice may be called.
func CanSplice() bool { return false }

// Splice does nothing: it is for Linux.
func Splice(syscall.RawConn, syscall.RawConn, int64) (n int64, srcErr, dstErr error) {
	return 0, ErrNoPipe, nil
}
