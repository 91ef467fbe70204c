//go:build unix && !linux

package http1

// linkOf cannot see behind bytes that wait.
func linkOf(fd uintptr) link { return unread(fd).link }
