package route

import (
	"bytes"
	"errors"
)

// What CanonicalPath refuses. The texts are made for the detail of a log line
// and for the condition of a route whose path is not usable.
var (
	ErrPathRelative  = errors.New("path does not start with '/'")
	ErrPathByte      = errors.New("path holds a byte that must be percent-encoded (control, space, '#', '?' or non-ASCII)")
	ErrPathEscape    = errors.New("'%' in path is not followed by two hexadecimal digits")
	ErrPathNul       = errors.New("path holds %00")
	ErrPathBackslash = errors.New("path holds a backslash, plain or encoded")
	ErrPathAboveRoot = errors.New("'..' in path climbs above the root")
	ErrPathHiddenDot = errors.New("path hides '.' or '..' beside an encoded slash")
)

// Classes of path bytes.
const (
	pathPlain = iota
	pathSlash
	pathPercent
	pathBackslash
	pathForbidden
)

// pathClass gives each byte its class. What RFC 3986 does not allow but
// browsers send unescaped (such as '|' or '"') is plain: it cannot be mistaken
// for syntax, and escaping it would make the path longer.
var pathClass = func() (t [256]uint8) {
	for c := range t {
		if c <= ' ' || c >= 0x7f {
			t[c] = pathForbidden
		}
	}
	t['#'], t['?'] = pathForbidden, pathForbidden
	t['/'], t['%'], t['\\'] = pathSlash, pathPercent, pathBackslash
	return t
}()

// CanonicalPath rewrites the raw path of an origin-form request target (the
// bytes before any '?') in place to the one spelling that is matched, logged
// and forwarded, and returns its length, which is never more than len(p):
//
//   - percent-encoded unreserved characters are decoded (RFC 3986 section
//     6.2.2.2), the hexadecimal digits of other escapes are upper case
//     (6.2.2.1). It decodes once: %252e is not a dot.
//   - runs of '/' are one. Then the segments "." and ".." are removed (5.2.4),
//     so /a//../b is /b. Climbing above the root is an error.
//   - %2F stays an escape and does not separate segments, but a backend may
//     decode it: a segment one of whose %2F-separated parts is "." or ".." is
//     an error.
//   - errors, too, are %00, '\' and %5C, and bytes that a target cannot hold.
//
// It is idempotent, a path that is canonical already costs one scan, and it
// never allocates. On an error n is 0 and the content of p is unspecified.
func CanonicalPath(p []byte) (n int, err error) {
	if len(p) == 0 || p[0] != '/' {
		return 0, ErrPathRelative
	}
	segment := 0
	for i, c := range p {
		switch pathClass[c] {
		case pathPlain:
			continue
		case pathSlash:
			segment = i + 1
			if !startsPlainly(p[segment:]) {
				return rewritePath(p, segment)
			}
		default:
			return rewritePath(p, segment)
		}
	}
	return len(p), nil
}

// startsPlainly says that rest, which follows a '/', begins neither with
// another '/' nor with a dot segment.
func startsPlainly(rest []byte) bool {
	if len(rest) == 0 {
		return true
	}
	if rest[0] == '/' {
		return false
	}
	if rest[0] != '.' {
		return true
	}
	if len(rest) > 1 && rest[1] == '.' {
		rest = rest[1:]
	}
	return len(rest) > 1 && rest[1] != '/'
}

// rewritePath makes p canonical from the segment that starts at from, before
// which it is canonical. It reads at r and writes at w <= r.
func rewritePath(p []byte, from int) (int, error) {
	segment, w := from, from
	hasSlash := false // the segment holds %2F
	for r := from; r < len(p); r++ {
		c := p[r]
		switch pathClass[c] {
		case pathPlain:
			p[w] = c
			w++
		case pathSlash:
			end, err := endSegment(p, segment, w, hasSlash)
			if err != nil {
				return 0, err
			}
			if end > segment { // kept: what was dropped left its slash behind
				p[end] = '/'
				end++
			}
			segment, w, hasSlash = end, end, false
		case pathPercent:
			v, err := unescape(p[r:])
			if err != nil {
				return 0, err
			}
			r += 2
			if isUnreserved(v) {
				p[w] = v
				w++
				continue
			}
			hasSlash = hasSlash || v == '/'
			p[w], p[w+1], p[w+2] = '%', upperHex[v>>4], upperHex[v&15]
			w += 3
		case pathBackslash:
			return 0, ErrPathBackslash
		default:
			return 0, ErrPathByte
		}
	}
	return endSegment(p, segment, w, hasSlash)
}

// endSegment judges the segment p[start:end] and returns where the path now
// ends: end, or before, just behind a '/', when the segment is a dot segment.
func endSegment(p []byte, start, end int, hasSlash bool) (int, error) {
	segment := p[start:end]
	switch {
	case isDot(segment):
		return start, nil
	case isDotDot(segment):
		if start == 1 {
			return 0, ErrPathAboveRoot
		}
		return bytes.LastIndexByte(p[:start-1], '/') + 1, nil
	case !hasSlash:
		return end, nil
	}
	for more := true; more; {
		var part []byte
		part, segment, more = bytes.Cut(segment, escapedSlash)
		if isDot(part) || isDotDot(part) {
			return 0, ErrPathHiddenDot
		}
	}
	return end, nil
}

func isDot(s []byte) bool    { return len(s) == 1 && s[0] == '.' }
func isDotDot(s []byte) bool { return len(s) == 2 && s[0] == '.' && s[1] == '.' }

const upperHex = "0123456789ABCDEF"

var escapedSlash = []byte("%2F")

// unescape returns the byte that the escape at the start of p stands for.
func unescape(p []byte) (byte, error) {
	if len(p) < 3 {
		return 0, ErrPathEscape
	}
	hi, lo := hexValue(p[1]), hexValue(p[2])
	if hi > 15 || lo > 15 {
		return 0, ErrPathEscape
	}
	v := hi<<4 | lo
	switch v {
	case 0:
		return 0, ErrPathNul
	case '\\':
		return 0, ErrPathBackslash
	}
	return v, nil
}

// hexValue returns the value of a hexadecimal digit, and 0xff for other bytes.
func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// isUnreserved says that c means the same escaped and not (RFC 3986 section
// 2.3).
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
