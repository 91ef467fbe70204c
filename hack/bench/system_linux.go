package main

import "syscall"

// ownGroup keeps the terminal's Ctrl-C from reaching a child, and has the kernel
// end it with the thread that starts it, at the latest when this process is
// killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// killGroup kills all processes of a group that this program made.
func killGroup(group int) error { return syscall.Kill(-group, syscall.SIGKILL) }

// raiseOpenFiles lets this process and those it starts have n files open.
func raiseOpenFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// Set even if it is high enough: the Go runtime raised it for itself alone,
	// and gives children what was there before unless a program sets it.
	limit.Cur, limit.Max = max(limit.Cur, n), max(limit.Max, n)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// isOpen reports whether the other end of a connection that waits for nothing
// has not closed it.
func isOpen(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN
		return true
	})
	return open && err == nil
}
