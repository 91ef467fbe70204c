package http1

import (
	"syscall"
	"unsafe"
)

// pollFD is the struct of poll(2).
type pollFD struct {
	fd              int32
	events, revents int16
}

// The events of poll(2). The last three are reported without being asked for.
const (
	pollRdHup = 0x2000 // FIN or reset
	pollErr   = 0x0008
	pollHup   = 0x0010 // reset, timed out, or ended in both directions
	pollNval  = 0x0020
)

// linkOf asks the kernel for the state of the connection, which unread bytes do
// not hide as they hide it from a read.
func linkOf(fd uintptr) link {
	p := pollFD{fd: int32(fd), events: pollRdHup}
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	switch {
	case errno != 0: // not looked at
		return linkOpen
	case p.revents&(pollErr|pollHup|pollNval) != 0:
		return linkBroken
	case p.revents&pollRdHup != 0:
		return linkEnded
	}
	return linkOpen
}
