//go:build !unix

package http1

import "time"

// These have no use where there are no raw reads and writes.
type (
	rawCallbacks struct{}
	rawReader    struct{}
	rawWriter    struct{}
)

func (c *Conn) bindRaw() {}

func (c *Conn) rawFill(time.Time) error { return ErrTimeout }

func (c *Conn) rawWriteOnce([]byte) (int, error) { return 0, ErrTimeout }

func (c *Conn) rawAwait(deadline time.Time, _ Inline) error {
	return c.Fill(deadline)
}

func (c *Conn) rawRoundTrip(out []byte, now, deadline time.Time) (int, error) {
	n, err := c.Write(out, now)
	if err != nil {
		return n, err
	}
	return n, c.Fill(deadline)
}

func (c *Conn) rawSendOnly(out []byte, now time.Time) (int, error) { return c.Write(out, now) }

// Alive cannot tell here without reading.
func (c *Conn) Alive() bool { return true }

// Broken cannot, either.
func (c *Conn) Broken() bool { return false }

// Pending says what it says of a connection of which it cannot tell.
func (c *Conn) Pending() bool { return true }
