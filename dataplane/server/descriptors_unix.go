//go:build linux || darwin

package server

import "syscall"

// Descriptors returns how many file descriptors the process may have open; 0
// means that there is no limit that is known.
func Descriptors() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return limit.Cur
}
