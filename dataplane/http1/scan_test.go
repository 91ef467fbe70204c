package http1

import (
	"bytes"
	"testing"
)

// The scanners look at eight bytes at a time where there are eight. Each byte
// must be judged the same at each place among others of each kind.
func TestScannersJudgeEachByteAlikeAtEachPlace(t *testing.T) {
	slow := func(stops func(c byte) bool) func(b []byte) int {
		return func(b []byte) int {
			for i, c := range b {
				if stops(c) {
					return i
				}
			}
			return len(b)
		}
	}
	for _, s := range []struct {
		name string
		fast func(b []byte) int
		slow func(b []byte) int
	}{
		{"controlAt", func(b []byte) int { return controlAt(b, 0) }, slow(func(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f })},
		{"targetStop", func(b []byte) int { return targetStop(b, 0) }, slow(func(c byte) bool { return c <= ' ' || c >= 0x7f || c == '#' || c == '?' })},
		{"nameEnd", func(b []byte) int { end, _ := nameEnd(b, 0); return end }, slow(func(c byte) bool { return tokenClass[c] == 0 })},
	} {
		for _, length := range []int{1, 7, 8, 9, 17} {
			for at := range length {
				for c := range 256 {
					for _, others := range []string{"a", "\t", "Z", "-", "\xff", "_", "\x1f", ":"} {
						b := bytes.Repeat([]byte(others), length)
						b[at] = byte(c)
						if got, want := s.fast(b), s.slow(b); got != want {
							t.Fatalf("%s(%q): got %d, want %d", s.name, b, got, want)
						}
					}
				}
			}
		}
	}
}
