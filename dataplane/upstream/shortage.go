package upstream

import (
	"errors"
	"slices"
	"syscall"
)

// shortages are the errors of a connect that has not come as far as the network:
// this process or its host has no descriptor, port or memory left.
var shortages = [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM}

// IsShortage reports whether a failure to connect says nothing of the endpoint,
// because something ran out on this side: another endpoint would not help.
func IsShortage(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && slices.Contains(shortages[:], errno)
}
