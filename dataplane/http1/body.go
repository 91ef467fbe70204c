package http1

import (
	"errors"
	"io"
	"time"
)

// ErrBodyTooLarge says that a body passes its limit.
var ErrBodyTooLarge = errors.New("http1: body larger than its limit")

// UntilClose as the length of a body says that it ends with the connection.
const UntilClose = -1

// Body reads the body of the message whose head was read last from a
// connection, as it arrives and without keeping it.
type Body struct {
	src     *Conn
	left    int64 // bytes to come, or UntilClose; not used when chunked
	chunked bool
	scan    Chunked
	limit   int64
	read    int64 // payload bytes delivered, when not chunked
	done    bool
}

// Reset prepares b for a message of src: length bytes (or UntilClose), or
// chunked. With decode the chunked framing is taken off, else it is delivered
// with the payload, cleaned of extensions and of trailer fields that may not be
// forwarded. limit caps the payload; 0 is none.
func (b *Body) Reset(src *Conn, length int64, chunked, decode bool, limit int64) {
	b.src, b.left, b.chunked, b.limit, b.read = src, length, chunked, limit, 0
	b.done = !chunked && length == 0
	if chunked {
		b.scan.Reset(decode, maxChunkExtensions)
	}
}

// Limit caps the payload; 0 is none.
func (b *Body) Limit(n int64) { b.limit = n }

// DropTrailers keeps trailer fields from being delivered.
func (b *Body) DropTrailers() { b.scan.DropTrailers() }

// maxChunkExtensions bounds the bytes of chunk extensions of one message:
// nobody uses them but attackers (CVE-2023-39326).
const maxChunkExtensions = 4 << 10

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.done }

// Payload is the number of bytes of the body delivered so far, without framing.
func (b *Body) Payload() int64 {
	if b.chunked {
		return b.scan.Payload()
	}
	return b.read
}

// Left is the number of bytes still to come of a body with a length; UntilClose
// for any other.
func (b *Body) Left() int64 {
	if b.chunked {
		return UntilClose
	}
	return b.left
}

// Next returns the next piece of the body, to be written before the following
// call. It returns what is buffered already, else it reads. io.EOF comes with
// or after the last piece. io.ErrUnexpectedEOF says that the peer closed before
// the framing's end; *Error that the framing is broken; ErrBodyTooLarge that
// the payload passes its limit (nothing of the piece is returned then).
func (b *Body) Next(deadline time.Time) ([]byte, error) {
	for !b.done {
		p := b.src.Buffered()
		if len(p) == 0 {
			if err := b.src.Fill(deadline); err != nil {
				return nil, b.readFailed(err)
			}
			p = b.src.Buffered()
		}
		out, err := b.take(p)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			return out, b.end()
		}
	}
	return nil, io.EOF
}

// Ready returns the next piece if it is buffered already, without reading.
func (b *Body) Ready() ([]byte, error) {
	if b.done || len(b.src.Buffered()) == 0 {
		return nil, b.end()
	}
	out, err := b.take(b.src.Buffered())
	if err != nil {
		return nil, err
	}
	return out, b.end()
}

func (b *Body) end() error {
	if b.done {
		return io.EOF
	}
	return nil
}

// take consumes what of p belongs to the body.
func (b *Body) take(p []byte) ([]byte, error) {
	if b.chunked {
		out, n, done, err := b.scan.Scan(p)
		b.src.consume(n)
		if err == nil && b.limit > 0 && b.scan.Payload() > b.limit {
			return nil, ErrBodyTooLarge // and never done: what is not returned is missing
		}
		b.done = done
		return out, err
	}
	if b.left >= 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if b.limit > 0 && b.read+int64(len(p)) > b.limit {
		return nil, ErrBodyTooLarge
	}
	b.src.consume(len(p))
	b.advance(int64(len(p)))
	return p, nil
}

func (b *Body) advance(n int64) {
	b.read += n
	if b.left >= 0 {
		b.left -= n
		b.done = b.left == 0
	}
}

// readFailed turns the end of the connection into the end of the body where
// that is its framing.
func (b *Body) readFailed(err error) error {
	if err != io.EOF {
		return err
	}
	if !b.chunked && b.left == UntilClose {
		b.done = true
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}
