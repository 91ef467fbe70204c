package http1

import (
	"io"
	"time"
)

// ReadRequest reads and parses the head of the next request. r's views stay
// valid until Release. io.EOF says that the peer closed before a request
// began; ErrTimeout that the deadline passed; an *Error that the bytes are not a
// request, ErrHeld that there is no room to wait for the rest of it: the connection
// is of no further use then.
func (c *Conn) ReadRequest(lim *Limits, r *Request, deadline time.Time) error {
	for {
		if done, err := c.BufferedRequest(lim, r); done || err != nil {
			return err
		}
		if lim != nil && lim.MaxHeld > 0 && c.w > c.r && HeldBytes() > lim.MaxHeld {
			return ErrHeld
		}
		if err := c.fillHead(deadline); err != nil {
			return err
		}
	}
}

// SkipEmptyLine takes off an empty line that is all there is: some clients send
// one behind a body (RFC 9112, 2.2). It reports whether there was one.
func (c *Conn) SkipEmptyLine() bool {
	if string(c.Buffered()) != "\r\n" {
		return false
	}
	c.consume(2)
	c.Release()
	return true
}

// BufferedRequest is ReadRequest for what is buffered already; done is false
// when the head is not complete yet.
func (c *Conn) BufferedRequest(lim *Limits, r *Request) (done bool, err error) {
	b := c.Buffered()
	if len(b) == 0 {
		return false, nil
	}
	n, err := ParseRequest(b, lim, r)
	if n > 0 {
		c.consume(n)
		c.pinHead()
	}
	return n > 0, err
}

// ReadResponse is ReadRequest for the head of a response.
func (c *Conn) ReadResponse(lim *Limits, r *Response, deadline time.Time) error {
	for {
		if b := c.Buffered(); len(b) > 0 {
			n, err := ParseResponse(b, lim, r)
			if err != nil {
				return err
			}
			if n > 0 {
				c.consume(n)
				c.pinHead()
				return nil
			}
		}
		if err := c.fillHead(deadline); err != nil {
			return err
		}
	}
}

// fillHead is Fill inside a head: a peer that closes there has cut it.
func (c *Conn) fillHead(deadline time.Time) error {
	err := c.Fill(deadline)
	if err == io.EOF && c.w > c.r {
		return io.ErrUnexpectedEOF
	}
	return err
}
