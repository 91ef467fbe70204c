package proxy

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame is a WebSocket frame of n bytes of payload.
func frame(first byte, n int, masked bool) []byte {
	out := []byte{first}
	switch {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	if masked {
		out[1] |= 0x80
		out = append(out, 1, 2, 3, 4)
	}
	return append(out, bytes.Repeat([]byte{0x88}, n)...)
}

func TestAFrameOfOursStandsOnlyBetweenFramesAndBeforeAClose(t *testing.T) {
	for _, masked := range []bool{false, true} {
		for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
			for _, first := range []byte{0x81, 0x02, 0x80, 0x89} { // text, begun binary, continued, ping
				in := frame(first, n, masked)
				var f frames
				for i := range in {
					if f.between() != (i == 0) {
						t.Fatalf("%d bytes, first byte %#x, masked %v: between() is %v after %d bytes", n, first, masked, f.between(), i)
					}
					f.pass(in[i : i+1])
				}
				if !f.between() {
					t.Errorf("%d bytes, first byte %#x, masked %v: not at the end of the frame", n, first, masked)
				}
			}
		}
	}
	var f frames
	if f.pass(goingAway); f.between() {
		t.Error("a frame behind a Close")
	}
}

// FuzzFrames holds that it does not matter in which pieces the bytes come.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x05hello\x88\x02\x03\xe9"), 3)
	f.Add(append(frame(0x82, 70_000, true), frame(0x89, 0, false)...), 5)
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		step = max(step, 1)
		var whole, pieces frames
		whole.pass(in)
		for rest := in; len(rest) > 0; {
			n := min(step, len(rest))
			pieces.pass(rest[:n])
			rest = rest[n:]
		}
		if whole.left != pieces.left || whole.have != pieces.have || whole.closed != pieces.closed {
			t.Errorf("in one piece %+v, in pieces of %d %+v", whole, step, pieces)
		}
	})
}
