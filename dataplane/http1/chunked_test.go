package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

const extensionLimit = 64 // in these tests

// scanned is the result of taking a body through Scan.
type scanned struct {
	out     string
	n       int
	done    bool
	payload int64
	err     error
}

type chunkedMode struct{ decode, drop bool }

var chunkedModes = []chunkedMode{{false, false}, {false, true}, {true, false}}

// scanPieces feeds body in pieces that end at the cuts.
func scanPieces(c *Chunked, m chunkedMode, body []byte, cuts ...int) scanned {
	c.Reset(m.decode, extensionLimit)
	if m.drop {
		c.DropTrailers()
	}
	var s scanned
	var out []byte
	start := 0
	for _, end := range append(cuts, len(body)) {
		piece, n, done, err := c.Scan(exact(body[start:end]))
		out = append(out, piece...)
		s.n += n
		if err != nil || done {
			s.done, s.err = done, err
			break
		}
		if n != end-start {
			s.err = fmt.Errorf("took %d of %d bytes without being done", n, end-start)
			break
		}
		start = end
	}
	if s.err != nil {
		return scanned{err: s.err} // what came before does not matter: the message is cut
	}
	s.out, s.payload = string(out), c.Payload()
	return s
}

// checkChunkedSplits fails unless the body means the same in whatever pieces it
// comes, and returns what that is for each mode.
func checkChunkedSplits(t *testing.T, body []byte) (results [3]scanned) {
	t.Helper()
	var c Chunked
	for i, m := range chunkedModes {
		whole := scanPieces(&c, m, body)
		results[i] = whole
		var all []int
		for at := 1; at < len(body); at++ {
			all = append(all, at)
			if got := scanPieces(&c, m, body, at); got != whole {
				t.Errorf("%q in mode %v\nwhole     %+v\ncut at %d %+v", body, m, whole, at, got)
				break
			}
		}
		if got := scanPieces(&c, m, body, all...); got != whole {
			t.Errorf("%q in mode %v\nwhole        %+v\nbyte by byte %+v", body, m, whole, got)
		}
	}
	return results
}

var errNaive = errors.New("bad")

// naiveChunked decodes a body that is there as a whole, the obvious way. The
// limits are not its business.
func naiveChunked(body string) (payload string, trailers []string, rest string, err error) {
	for {
		line, after, ok := strings.Cut(body, "\r\n")
		if !ok {
			return "", nil, "", errNaive
		}
		digits, extension, _ := strings.Cut(line, ";")
		size, err := strconv.ParseUint(digits, 16, 63)
		if err != nil || len(digits) > 16 || strings.ContainsAny(digits, "+_") || hasControl(extension) {
			return "", nil, "", errNaive
		}
		body = after
		if size == 0 {
			break
		}
		if uint64(len(body)) < size || !strings.HasPrefix(body[size:], "\r\n") {
			return "", nil, "", errNaive
		}
		payload += body[:size]
		body = body[size+2:]
	}
	for {
		line, after, ok := strings.Cut(body, "\r\n")
		if !ok {
			return "", nil, "", errNaive
		}
		body = after
		if line == "" {
			return payload, trailers, body, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken([]byte(name)) || hasControl(value) {
			return "", nil, "", errNaive
		}
		trailers = append(trailers, line)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// checkChunked compares what Scan makes of a body with what naiveChunked does.
func checkChunked(t *testing.T, body []byte) [3]scanned {
	t.Helper()
	results := checkChunkedSplits(t, body)
	payload, trailers, rest, err := naiveChunked(string(body))
	for i, m := range chunkedModes {
		got := results[i]
		if got.err == nil && got.done && err != nil {
			t.Fatalf("%q in mode %v is accepted: %+v", body, m, got)
		}
		if got.err != nil || !got.done {
			continue
		}
		if got.payload != int64(len(payload)) || string(body[got.n:]) != rest {
			t.Errorf("%q in mode %v: %d bytes of payload, rest %q; want %q, %q", body, m, got.payload, body[got.n:], payload, rest)
		}
		if m.decode {
			if got.out != payload {
				t.Errorf("%q: decoded %q, want %q", body, got.out, payload)
			}
			continue
		}
		again, kept, rest, err := naiveChunked(got.out)
		if err != nil || again != payload || rest != "" {
			t.Errorf("%q: framed again as %q: %q, %q, %v", body, got.out, again, rest, err)
		}
		var c Chunked
		c.Reset(false, 0) // no extension is left
		if _, _, done, err := c.Scan([]byte(got.out)); !done || err != nil {
			t.Errorf("%q: framed again as %q: %t, %v", body, got.out, done, err)
		}
		if m.drop && len(kept) > 0 || !isSubsequence(kept, trailers) {
			t.Errorf("%q in mode %v keeps trailers %q of %q", body, m, kept, trailers)
		}
		if len(got.out) > got.n {
			t.Errorf("%q grew to %q", body, got.out)
		}
	}
	return results
}

func isSubsequence(part, whole []string) bool {
	for _, s := range whole {
		if len(part) > 0 && part[0] == s {
			part = part[1:]
		}
	}
	return len(part) == 0
}

var refusedBodies = []struct {
	name, section, body string
}{ // statements 7, 8 and 15
	{"no size", "RFC 9112 7.1", "\r\n\r\n"},
	{"only an extension", "RFC 9112 7.1", ";a\r\n\r\n"},
	{"sign", "RFC 9112 7.1", "+1\r\na\r\n0\r\n\r\n"},
	{"negative size", "RFC 9112 7.1", "-1\r\na\r\n0\r\n\r\n"},
	{"0x", "RFC 9112 7.1, 7.1.1", "0x1\r\na\r\n0\r\n\r\n"},
	{"underscore", "RFC 9112 7.1, 7.1.1", "1_0\r\na\r\n0\r\n\r\n"},
	{"space before the size", "RFC 9112 7.1", " 1\r\na\r\n0\r\n\r\n"},
	{"space behind the size", "RFC 9112 7.1, 7.1.1", "1 \r\na\r\n0\r\n\r\n"},
	{"space before an extension", "RFC 9112 7.1, 7.1.1", "1 ;x\r\na\r\n0\r\n\r\n"},
	{"letter that is no digit", "RFC 9112 7.1, 7.1.1", "1g\r\na\r\n0\r\n\r\n"},
	{"17 digits", "RFC 9112 7.1", "00000000000000001\r\na\r\n0\r\n\r\n"},
	{"2^63", "RFC 9112 7.1", "8000000000000000\r\n"},
	{"2^64-1", "RFC 9112 7.1", "ffffffffffffffff\r\n"},
	{"bare LF behind the size", "RFC 9112 7.1, 7.1.1", "1\na\r\n0\r\n\r\n"},
	{"bare CR behind the size", "RFC 9112 7.1, 7.1.1", "1\ra\r\n0\r\n\r\n"},
	{"bare LF behind an extension", "RFC 9112 7.1, 7.1.1", "1;x\na\r\n0\r\n\r\n"},
	{"CR in an extension", "RFC 9112 7.1, 7.1.1", "1;x\ry\r\na\r\n0\r\n\r\n"},
	{"NUL in an extension", "RFC 9112 7.1, 7.1.1", "1;\x00\r\na\r\n0\r\n\r\n"},
	{"LF in a quoted extension", "RFC 9112 7.1, 7.1.1", "1;x=\"\n\"\r\na\r\n0\r\n\r\n"},
	{"long extension", "RFC 9112 7.1.1", "1;" + strings.Repeat("x", 100) + "\r\na\r\n0\r\n\r\n"},
	{"many extensions", "RFC 9112 7.1.1", strings.Repeat("1;xxxxxxx\r\na\r\n", 9) + "0\r\n\r\n"},
	{"chunk too short", "RFC 9112 7.1", "1\r\nab\r\n0\r\n\r\n"},
	{"chunk too long", "RFC 9112 7.1", "3\r\nab\r\n0\r\n\r\n"},
	{"bare LF behind data", "RFC 9112 7.1", "1\r\na\n0\r\n\r\n"},
	{"bare CR behind data", "RFC 9112 7.1", "1\r\na\r0\r\n\r\n"},
	{"trailer without a colon", "RFC 9112 5", "0\r\nX\r\n\r\n"},
	{"trailer with a space before the colon", "RFC 9112 5.1", "0\r\nX : y\r\n\r\n"},
	{"folded trailer", "RFC 9112 5.2", "0\r\nX: y\r\n z\r\n\r\n"},
	{"trailer folded by a tab", "RFC 9112 5.2", "0\r\nX: y\r\n\tz\r\n\r\n"},
	{"trailer with a control character", "RFC 9110 5.5", "0\r\nX: \x00\r\n\r\n"},
	{"trailer with a bare CR", "RFC 9112 2.2", "0\r\nX: a\rb\r\n\r\n"},
	{"trailer with a bare LF", "RFC 9112 2.2", "0\r\nX: a\n\r\n"},
	{"bare LF at the end", "RFC 9112 2.2", "0\r\n\n"},
	{"bare CR at the end", "RFC 9112 2.2", "0\r\n\rX\n\r\n"},
	{"too many trailers", "RFC 9112 7.1.2", "0\r\n" + strings.Repeat("X: y\r\n", 33) + "\r\n"},
}

func TestRefusedBodiesAreRefusedForTheReasonOfTheirSection(t *testing.T) {
	for _, c := range refusedBodies {
		t.Run(c.name, func(t *testing.T) {
			for i, got := range checkChunked(t, []byte(c.body)) {
				e, ok := got.err.(*Error)
				if !ok || e.Status != 400 || e.Section != c.section {
					t.Errorf("%q in mode %v: got %+v, want %s", c.body, chunkedModes[i], got, c.section)
				}
			}
		})
	}
}

func TestBodiesAreForwardedWithoutWhatIsNotToBeForwarded(t *testing.T) {
	for _, c := range []struct{ name, body, out, payload string }{
		{"nothing", "0\r\n\r\n", "0\r\n\r\n", ""},
		{"one chunk", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"},
		{"several chunks", "5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "hello world"},
		{"capitals and zeros", "000000000000000B\r\nhello world\r\n0\r\n\r\n", "000000000000000B\r\nhello world\r\n0\r\n\r\n", "hello world"},
		{"data that looks like framing", "7\r\n0\r\n\r\n;x\r\n0\r\n\r\n", "7\r\n0\r\n\r\n;x\r\n0\r\n\r\n", "0\r\n\r\n;x"},
		{"extensions", "5;a=b;c=\"d;e\" \t\r\nhello\r\n1;\r\n!\r\n0;z\r\n\r\n", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!"},
		{"trailers", "1\r\na\r\n0\r\nX-A: 1\r\nGrpc-Status:0\r\n\r\n", "1\r\na\r\n0\r\nX-A: 1\r\nGrpc-Status:0\r\n\r\n", "a"},
		{"extensions and trailers", "1;x\r\na\r\n0;y\r\nX-A: 1\r\n\r\n", "1\r\na\r\n0\r\nX-A: 1\r\n\r\n", "a"},
		{"trailers that may not be", "0\r\nContent-Length: 5\r\nX-A: 1\r\nTRANSFER-ENCODING: chunked\r\nhost: b\r\nAuthorization: c\r\n" +
			"Connection: x\r\nContent-Encoding: d\r\nX-Forwarded-For: e\r\nX_B: f\r\nx.real.ip: g\r\nSet-Cookie: h\r\nX-C: 2\r\nTrailer: i\r\nCache-Control: j\r\n\r\n",
			"0\r\nX-A: 1\r\nX-C: 2\r\n\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := checkChunked(t, []byte(c.body))
			if got[0].out != c.out || !got[0].done || got[0].n != len(c.body) {
				t.Errorf("%q: got %+v, want %q", c.body, got[0], c.out)
			}
			if got[2].out != c.payload {
				t.Errorf("%q: decoded %q, want %q", c.body, got[2].out, c.payload)
			}
			followed := checkChunked(t, []byte(c.body+"GET / HTTP/1.1\r\n"))
			if followed != got {
				t.Errorf("%q: what follows changes %+v to %+v", c.body, got, followed)
			}
		})
	}
}

func TestBodyThatIsForwardedAsReceivedIsNotMoved(t *testing.T) {
	body := []byte("5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n")
	var c Chunked
	c.Reset(false, 0)
	out, n, done, err := c.Scan(body)
	if n != len(body) || !done || err != nil || &out[0] != &body[0] || len(out) != len(body) {
		t.Errorf("got %q, %d, %t, %v", out, n, done, err)
	}
	body = []byte("b\r\nhello world\r\n0\r\n\r\n")
	c.Reset(true, 0)
	if out, _, _, _ = c.Scan(body); &out[0] != &body[3] || string(out) != "hello world" {
		t.Errorf("decoded to another place: %q", out)
	}
}

func TestErrorOfABodyIsFinal(t *testing.T) {
	var c Chunked
	c.Reset(false, 0)
	_, _, _, first := c.Scan([]byte("x"))
	out, n, done, second := c.Scan([]byte("0\r\n\r\n"))
	if first == nil || second != first || len(out) > 0 || n > 0 || done {
		t.Errorf("got %v, then %q, %d, %t, %v", first, out, n, done, second)
	}
}

func TestBodyThatIsDoneTakesNothingMore(t *testing.T) {
	var c Chunked
	c.Reset(false, 0)
	c.Scan([]byte("0\r\n\r"))
	if out, n, done, err := c.Scan([]byte("\nGET")); string(out) != "\r\n" || n != 1 || !done || err != nil {
		t.Errorf("got %q, %d, %t, %v", out, n, done, err)
	}
	if out, n, done, err := c.Scan([]byte("GET")); len(out) > 0 || n != 0 || !done || err != nil {
		t.Errorf("got %q, %d, %t, %v", out, n, done, err)
	}
}

func TestTrailersAreBoundedInBytes(t *testing.T) {
	for _, step := range []int{1, 100, 1 << 20} {
		var c Chunked
		c.Reset(false, 0)
		body := []byte("0\r\nX: " + strings.Repeat("a", 10<<10))
		var err error
		for len(body) > 0 && err == nil {
			n := min(step, len(body))
			_, _, _, err = c.Scan(body[:n])
			body = body[n:]
		}
		if e, ok := err.(*Error); !ok || e.Section != "RFC 9112 7.1.2" {
			t.Errorf("in steps of %d: got %v", step, err)
		}
		if cap(c.line) > 2*maxTrailerBytes {
			t.Errorf("in steps of %d: %d bytes held", step, cap(c.line))
		}
	}
}

func TestResetLetsGoOfLongTrailers(t *testing.T) {
	var c Chunked
	c.Reset(false, 0)
	c.Scan([]byte("0\r\nX: " + strings.Repeat("a", 1000)))
	c.Scan([]byte("\r\n\r\n"))
	c.Reset(false, 0)
	if cap(c.line)+cap(c.out) > 2*keptTrailer {
		t.Errorf("%d and %d bytes held", cap(c.line), cap(c.out))
	}
}

func BenchmarkScan(b *testing.B) {
	chunk := append([]byte("4000\r\n"), bytes.Repeat([]byte("x"), 16<<10)...)
	chunk = append(chunk, "\r\n"...)
	plain := append(bytes.Repeat(chunk, 4), "0\r\n\r\n"...)
	small := append(bytes.Repeat([]byte("10\r\n0123456789abcdef\r\n"), 256), "0\r\n\r\n"...)
	for _, c := range []struct {
		name   string
		body   []byte
		decode bool
	}{
		{"16KiB-chunks/forward", plain, false},
		{"16KiB-chunks/decode", plain, true},
		{"16B-chunks/forward", small, false},
		{"16B-chunks/decode", small, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var s Chunked
			buf := make([]byte, len(c.body))
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if c.decode {
					copy(buf, c.body) // decoding in place eats it
				} else if buf[0] == 0 {
					copy(buf, c.body)
				}
				s.Reset(c.decode, 0)
				if _, n, done, err := s.Scan(buf); n != len(buf) || !done || err != nil {
					b.Fatal(n, done, err)
				}
			}
		})
	}
}
