package proxy

import (
	"encoding/binary"
	"math"
)

// goingAway is the frame by which a server closes a WebSocket because it stops:
// an unmasked Close with status 1001 (RFC 6455, 5.5.1 and 7.4.1).
var goingAway = []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}

// maxFrameHead is the longest head of a frame: with a length of 64 bits and a mask.
const maxFrameHead = 14

// frames follows the frames of a WebSocket in the bytes of one direction
// (RFC 6455, 5.2), to know where a frame of our own may stand. The zero value
// stands before the first.
type frames struct {
	head   [maxFrameHead]byte
	have   int    // bytes of a head
	left   uint64 // bytes of a payload that are still to come
	closed bool   // a Close has begun, behind which no frame may stand
}

// pass takes the next bytes.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		f.endHead()
	}
}

// endHead reads the head if it is complete.
func (f *frames) endHead() {
	if f.have < 2 {
		return
	}
	size, short := 2, f.head[1]&0x7f
	switch short {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	payload := size
	if f.head[1]&0x80 != 0 { // masked
		size += 4
	}
	if f.have < size {
		return
	}
	switch short {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:payload]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:payload]) & math.MaxInt64 // the highest bit has to be 0
	default:
		f.left = uint64(short)
	}
	f.closed = f.closed || f.head[0]&0x0f == 0x8
	f.have = 0
}

// between reports whether a frame may stand here.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 && !f.closed }
