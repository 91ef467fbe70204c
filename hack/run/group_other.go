//go:build !linux

package main

import "syscall"

// ownGroup keeps the terminal's Ctrl-C from reaching the proxy, for which it
// would be the first of two signals (the second, from stop, means "at once").
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
