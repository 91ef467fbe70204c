//go:build unix

package http1

import (
	"sync"
	"syscall"
)

// link is what the kernel knows of a connection.
type link uint8

const (
	linkOpen   link = iota
	linkEnded       // the peer has said that it sends no more, perhaps behind bytes that wait to be read
	linkBroken      // it was reset, or given up by the kernel, or is closed
)

// Alive reports whether the peer still holds the connection open, as far as the
// kernel knows: false after a FIN or a reset. Bytes that wait to be read do not
// matter, nor hide either (on Linux). It may be called from any goroutine, also
// while another one reads.
func (c *Conn) Alive() bool {
	if c.raw == nil {
		p, ok := c.nc.(interface{ Alive() bool })
		return !ok || p.Alive()
	}
	return c.look(false).link == linkOpen
}

// Broken is for a peer that may have said all that it has to say and still waits:
// it reports whether the connection was reset, or is closed. It may be called as
// Alive may.
func (c *Conn) Broken() bool {
	if c.raw == nil {
		p, ok := c.nc.(interface{ Broken() bool })
		return ok && p.Broken()
	}
	return c.look(false).link == linkBroken
}

// Pending reports whether bytes of the peer wait that were not read, or may
// wait, where that cannot be told.
func (c *Conn) Pending() bool {
	return c.w > c.r || c.raw == nil || c.look(true).pending
}

// sight is what a look has found.
type sight struct {
	link    link
	pending bool // bytes wait; not looked for by most
}

// look is one look at a socket. Several goroutines may look at a time, and none
// allocates anything for it.
type look struct {
	at    func(fd uintptr) // see, bound once
	bytes bool             // whether they wait is what is asked
	sight
}

var looks = sync.Pool{New: func() any {
	l := new(look)
	l.at = l.see
	return l
}}

func (c *Conn) look(bytes bool) sight {
	l := looks.Get().(*look)
	l.bytes, l.sight = bytes, sight{}
	if c.raw.Control(l.at) != nil { // we have closed it
		l.sight = sight{link: linkBroken}
	}
	found := l.sight
	looks.Put(l)
	return found
}

func (l *look) see(fd uintptr) {
	if l.bytes {
		l.sight = unread(fd)
	} else {
		l.link = linkOf(fd)
	}
}

// unread looks at what can be read without reading it. Bytes hide what is behind
// them.
func unread(fd uintptr) sight {
	n, errno := peek(fd)
	switch {
	case n > 0, errno == syscall.EINTR: // not looked at
		return sight{pending: true}
	case errno == 0:
		return sight{link: linkEnded}
	case errno == syscall.EAGAIN:
		return sight{}
	}
	return sight{link: linkBroken}
}
