package http1

import (
	"bytes"
	"math"
)

// Chunked takes a chunked body (RFC 9112 section 7.1) as it arrives, in pieces
// cut anywhere, checks it, and gives back what is to be forwarded. Its zero
// value must be Reset before use. It belongs to one goroutine at a time.
//
//	size --';'--> extension
//	  |              |
//	  CR <-----------+
//	  v
//	sizeLF --0--> trailer --empty line--> done
//	  | >0
//	  v
//	data --> dataCR --> dataLF --> size
type Chunked struct {
	state        chunkState
	decode       bool
	dropTrailers bool
	digits       uint8  // of the size so far
	left         uint64 // the size so far, then the bytes of data to come
	payload      int64
	extensions   int // bytes of extensions that may still come

	line          []byte // the part of a trailer line that came with earlier pieces
	out           []byte // what Scan returns when it cannot be a part of its argument
	trailerBytes  int
	trailerFields int
	apart         bool // the output of this Scan is in out
	failed        fault
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkDone
)

// Bounds of a trailer section.
const (
	maxTrailerBytes  = 8 << 10
	maxTrailerFields = 32
)

// keptTrailer is the capacity in bytes that survives a Reset.
const keptTrailer = 256

// hexValue gives the value of a hexadecimal digit, and 0xff for other bytes.
var hexValue = func() (t [256]uint8) {
	for c := range t {
		t[c] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		t[c] = uint8(i)
	}
	for i, c := range "ABCDEF" {
		t[c] = uint8(i + 10)
	}
	return t
}()

// Reset prepares for a body. With decode, Scan returns the payload alone and
// drops trailers; without, it returns the body still chunked: without chunk
// extensions (they are hop-by-hop, section 7.1.1) and without the trailer
// fields that may not be forwarded. maxExtBytes bounds the extensions of the
// whole body, in bytes.
func (c *Chunked) Reset(decode bool, maxExtBytes int) {
	line, out := c.line[:0], c.out[:0]
	if cap(line) > keptTrailer || cap(out) > keptTrailer {
		line, out = nil, nil
	}
	*c = Chunked{decode: decode, extensions: maxExtBytes, line: line, out: out}
}

// DropTrailers makes Scan remove all trailer fields: for a recipient that did
// not say that it accepts them. It is to be called after Reset.
func (c *Chunked) DropTrailers() { c.dropTrailers = true }

// Payload returns the number of bytes of payload that Scan has passed since
// Reset.
func (c *Chunked) Payload() int64 { return c.payload }

// piece is a part of a buffer that output is gathered in: what is appended to
// it lies behind it, or is moved there. So output that is one run in the input,
// which is the rule, is never moved.
type piece struct {
	b        []byte
	from, to int
}

func (o *piece) add(from, to int) {
	switch o.to {
	case from:
		o.to = to
	case o.from: // nothing yet
		o.from, o.to = from, to
	default:
		o.to += copy(o.b[o.to:], o.b[from:to])
	}
}

// Scan takes the bytes p of the body, as received. out is what to forward: a
// part of p, which it may have changed, or memory of c, valid until the next
// call. consumed is how many bytes of p belong to the body: all, unless done
// says that it ended; the rest is not the body's. An error is an *Error,
// final, of status 400 (which the body of a response turns into a 502); the
// message can only be cut off.
func (c *Chunked) Scan(p []byte) (out []byte, consumed int, done bool, err error) {
	if c.failed == noFault {
		o := piece{b: p}
		c.apart = len(c.line) > 0
		c.out = c.out[:0]
		consumed, c.failed = c.scan(p, &o)
		if c.failed == noFault {
			out = p[o.from:o.to]
			if c.apart {
				out = c.out
			}
			return out, consumed, c.state == chunkDone, nil
		}
	}
	return nil, consumed, false, c.failed.ofRequest()
}

// scan is the machine. It returns the number of bytes it took.
func (c *Chunked) scan(p []byte, o *piece) (i int, flt fault) {
	for i < len(p) && flt == noFault {
		switch c.state {
		case chunkSize:
			i, flt = c.scanSize(p, i, o)
		case chunkExtension:
			i, flt = c.scanExtension(p, i, o)
		case chunkSizeLF:
			i, flt = c.scanByte(p, i, o, '\n', chunkData, faultChunkLine)
			if c.left == 0 && c.state == chunkData {
				c.state = chunkTrailer
			}
		case chunkData:
			n := len(p) - i
			if uint64(n) >= c.left {
				n = int(c.left)
				c.state = chunkDataCR
			}
			c.left -= uint64(n)
			c.payload += int64(n)
			o.add(i, i+n)
			i += n
		case chunkDataCR:
			i, flt = c.scanByte(p, i, o, '\r', chunkDataLF, faultChunkEnd)
		case chunkDataLF:
			i, flt = c.scanByte(p, i, o, '\n', chunkSize, faultChunkEnd)
			c.digits, c.left = 0, 0
		case chunkTrailer:
			i, flt = c.scanTrailer(p, i, o)
		case chunkDone:
			return i, noFault
		}
	}
	return i, flt
}

// frame adds bytes of framing to the output.
func (c *Chunked) frame(o *piece, from, to int) {
	if !c.decode {
		o.add(from, to)
	}
}

// scanByte takes a byte of framing that can only be want.
func (c *Chunked) scanByte(p []byte, i int, o *piece, want byte, next chunkState, wrong fault) (int, fault) {
	if p[i] != want {
		return i, wrong
	}
	c.frame(o, i, i+1)
	c.state = next
	return i + 1, noFault
}

// scanSize takes digits of a chunk size, and the byte behind them.
func (c *Chunked) scanSize(p []byte, i int, o *piece) (int, fault) {
	start := i
	for ; i < len(p); i++ {
		v := hexValue[p[i]]
		if v > 15 {
			break
		}
		if c.digits == 16 {
			return i, faultChunkSize
		}
		c.left = c.left<<4 | uint64(v)
		if c.digits++; c.left > math.MaxInt64 {
			return i, faultChunkSizeRange
		}
	}
	c.frame(o, start, i)
	switch {
	case i == len(p):
		return i, noFault
	case c.digits == 0:
		return i, faultChunkSize
	case p[i] == ';':
		c.state = chunkExtension
		return i, noFault
	}
	return c.scanByte(p, i, o, '\r', chunkSizeLF, faultChunkLine)
}

// scanExtension takes bytes of chunk extensions, which are not looked into:
// they can hold no CR or LF, not even in quotes, and are not forwarded.
func (c *Chunked) scanExtension(p []byte, i int, o *piece) (int, fault) {
	end := controlAt(p, i)
	if end-i > c.extensions {
		return i, faultChunkExtensions
	}
	c.extensions -= end - i
	if end == len(p) {
		return end, noFault
	}
	return c.scanByte(p, end, o, '\r', chunkSizeLF, faultChunkLine)
}

// scanTrailer takes a trailer line, or a part of one: that is kept until the
// rest comes.
func (c *Chunked) scanTrailer(p []byte, i int, o *piece) (int, fault) {
	end := bytes.IndexByte(p[i:], '\n') + i + 1
	if end == i {
		end = len(p)
	}
	if c.trailerBytes += end - i; c.trailerBytes > maxTrailerBytes {
		return i, faultTrailersTooLarge
	}
	if p[end-1] != '\n' {
		c.line = append(c.line, p[i:]...)
		return end, noFault
	}
	line := p[i:end]
	if len(c.line) > 0 {
		c.line = append(c.line, line...)
		line = c.line
	}
	keep, flt := c.judgeTrailer(line)
	switch {
	case !keep:
	case c.apart:
		c.out = append(c.out, line...)
	default:
		o.add(i, end)
	}
	c.line = c.line[:0]
	return end, flt
}

// judgeTrailer says whether a complete line of the trailer section is to be
// forwarded. The last line is empty.
func (c *Chunked) judgeTrailer(line []byte) (keep bool, flt fault) {
	if line[0] == '\r' {
		if len(line) != 2 {
			return false, faultBareCR
		}
		c.state = chunkDone
		return !c.decode, noFault
	}
	if isSpace(line[0]) {
		return false, faultFold
	}
	if c.trailerFields++; c.trailerFields > maxTrailerFields {
		return false, faultTrailersTooLarge
	}
	var f Field
	if n, flt := scanField(line, 0, &f); n == 0 {
		return false, flt
	}
	// Whatever has a kind is framing, routing, authentication, or of use only
	// before the body (RFC 9110 section 6.5.1).
	return !c.decode && !c.dropTrailers && f.Kind == Unknown && !f.Drop, noFault
}
