//go:build unix && (!linux || race)

package http1

import "syscall"

// recv and send read from and write to a socket that does not block, and peek
// leaves there what it sees. The race detector follows what is sent through
// package syscall.
func recv(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return n, errnoOf(err)
}

func send(fd uintptr, p []byte, _ bool) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return n, errnoOf(err)
}

func peek(fd uintptr) (int, syscall.Errno) {
	var one [1]byte
	n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n, errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // package syscall does not wrap
		return errno
	}
	return syscall.EIO
}
