package main

import "syscall"

// ownGroup keeps the terminal's Ctrl-C from reaching the proxy, for which it
// would be the first of two signals (the second, from stop, means "at once"),
// and has the kernel end the proxy with the thread that starts it, at the latest
// when this process is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
