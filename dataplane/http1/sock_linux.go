//go:build linux && !race

package http1

import (
	"syscall"
	"unsafe"
)

// recv and send are recv(2) and send(2) on a socket that does not block. They
// are made without telling the scheduler, which has nothing to gain from it: it
// would look on, find this thread inside a write for longer than 20 us because
// the loopback or the network card is at work below, give its processor to
// another thread and take it back at the end. On a busy proxy that is a context
// switch for every few requests.
func recv(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
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
