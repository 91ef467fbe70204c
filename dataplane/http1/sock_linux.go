//go:build linux && !race

package http1

import (
	"syscall"
	"unsafe"
)

// recv and send are recv(2) and send(2) on a socket that does not block, and peek
// is a recv of one byte that leaves it there. They are made without telling the scheduler, which has nothing to gain from it: it
// would look on, find this thread inside a write for longer than 20 us because
// the loopback or the network card is at work below, give its processor to
// another thread and take it back at the end. On a busy proxy that is a context
// switch for every few requests.
func recv(fd uintptr, p []byte) (int, syscall.Errno) {
	return recvWith(fd, p, syscall.MSG_DONTWAIT)
}

func peek(fd uintptr) (int, syscall.Errno) {
	var one [1]byte
	return recvWith(fd, one[:], syscall.MSG_DONTWAIT|syscall.MSG_PEEK)
}

func recvWith(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		flags, 0, 0)
	return int(n), errno
}

// With more, the kernel may hold the bytes back for those that follow, or for
// the end of the stream: for 200 ms at most.
func send(fd uintptr, p []byte, more bool) (int, syscall.Errno) {
	flags := uintptr(syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL)
	if more {
		flags |= syscall.MSG_MORE
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		flags, 0, 0)
	return int(n), errno
}
