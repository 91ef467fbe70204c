package http1

import (
	"encoding/binary"
	"math/bits"
)

// Scanning eight bytes at a time. Each function below takes a word of eight
// bytes and sets the high bit of those that are in its class. Only the low seven
// bits of a byte are computed with, so no carry gets from one into the next, and
// bytes from 0x80 on are masked out, or in, at the end.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func load64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// from has the high bits of the bytes of x (all below 0x80) that are at least
// c.
func from(x uint64, c byte) uint64 { return x + ones*uint64(0x80-c) }

// not has the high bits of the bytes of x (all below 0x80) that are not c.
func not(x uint64, c byte) uint64 { return x ^ ones*uint64(c) + ones*0x7f }

// controls marks the control characters of x, HTAB among them.
func controls(x uint64) uint64 {
	low := x &^ highs
	return (^from(low, ' ') | from(low, 0x7f)) &^ x & highs
}

// controlAt returns the index, from i on, of the first control character other
// than HTAB, or len(b). These are the bytes that a field value, a reason phrase
// and a chunk extension cannot hold (RFC 9110 section 5.5), so in a good one it
// is the CR of the line's end.
func controlAt(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		for m := controls(load64(b[i:])); m != 0; m &= m - 1 {
			if at := i + bits.TrailingZeros64(m)>>3; b[at] != '\t' {
				return at
			}
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return i
}

// targetStop returns the index, from i on, of the first byte that ends the
// request target or means something in it ('?'), or that it cannot hold, or
// len(b).
func targetStop(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		x := load64(b[i:])
		low := x &^ highs
		good := from(low, '!') &^ from(low, 0x7f) & not(low, '#') & not(low, '?')
		if m := (^good | x) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c <= ' ' || c >= 0x7f || c == '#' || c == '?' {
			return i
		}
	}
	return i
}

// nameEnd is tokenEnd for the names of fields, most of which have letters and
// '-' only.
func nameEnd(b []byte, i int) (end int, classes uint8) {
	for ; i+8 <= len(b); i += 8 {
		x := load64(b[i:])
		low := x &^ highs
		fold := low | ones*0x20
		good := from(fold, 'a')&^from(fold, 'z'+1) | ^not(low, '-')
		if m := (^good | x) & highs; m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			if b[i] == ':' {
				return i, tokenPlain
			}
			break
		}
	}
	end, classes = tokenEnd(b, i)
	return end, classes | tokenPlain
}

// Classes of the bytes of a token (RFC 9110 section 5.6.2); 0 is for all others.
const (
	tokenPlain      = 1 << iota // letters, digits, '-'
	tokenUnderscore             // '_'
	tokenOdd                    // the rest, seen in no name in use
)

var tokenClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
			t[c] = tokenPlain
		}
	}
	for _, c := range "!#$%&'*+.^`|~" {
		t[c] = tokenOdd
	}
	t['_'] = tokenUnderscore
	return t
}()

// tokenEnd returns the index, from i on, of the first byte that no token holds,
// or len(b), and the classes of the bytes before it.
func tokenEnd(b []byte, i int) (end int, classes uint8) {
	for ; i < len(b); i++ {
		c := tokenClass[b[i]]
		if c == 0 {
			break
		}
		classes |= c
	}
	return i, classes
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// trimSpace removes the optional white space (RFC 9110 section 5.6.3) around b.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// foldEqual compares bytes with a word in lower case, ignoring their letter
// case. The word has letters, digits and '-' only, which all have bit 5 set; a
// control character could be taken for one of them, so there must be none.
func foldEqual(token []byte, word string) bool {
	if len(token) != len(word) {
		return false
	}
	i := 0
	for ; i+8 <= len(word); i += 8 {
		if load64(token[i:])|ones*0x20 != load64s(word[i:]) {
			return false
		}
	}
	for ; i < len(word); i++ {
		if token[i]|0x20 != word[i] {
			return false
		}
	}
	return true
}

func load64s(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// foldEqualBytes compares two tokens, ignoring letter case.
func foldEqualBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// nextElement cuts the first element off a comma-separated list, without the
// white space around it. Empty elements are possible (RFC 9110 section 5.6.1.2).
func nextElement(list []byte) (element, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trimSpace(list[:i]), list[i+1:], true
		}
	}
	return trimSpace(list), nil, false
}

// isToken says whether b is one token.
func isToken(b []byte) bool {
	end, _ := tokenEnd(b, 0)
	return end == len(b) && end > 0
}
