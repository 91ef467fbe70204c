package http1

import "golang.org/x/sys/unix"

// linkOf asks the kernel for the state of the connection, which unread bytes do
// not hide as they hide it from a read.
func linkOf(fd uintptr) link {
	look := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} // a FIN; what else matters is always reported
	if _, err := unix.Poll(look[:], 0); err != nil {
		return linkOpen // it was not looked at
	}
	switch seen := look[0].Revents; {
	case seen&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
		return linkBroken
	case seen&unix.POLLRDHUP != 0:
		return linkEnded
	}
	return linkOpen
}

// ackedBytes is how many bytes the peer's kernel has taken, ever; 0 where that
// cannot be told. It is asked for when a write has waited for long.
func (c *Conn) ackedBytes() (n uint64) {
	if c.raw == nil {
		return 0
	}
	_ = c.raw.Control(func(fd uintptr) { // else it is closed, as the next write will find
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_acked
		}
	})
	return n
}
