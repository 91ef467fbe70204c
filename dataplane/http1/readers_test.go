package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// laxReader is a server that reads requests in the ways that make smuggling
// work: each flag is a leniency that some server in use had.
type laxReader struct {
	bareLF     bool // LF alone ends a line
	bareCR     bool // CR alone ends a line
	underscore bool // '_' and '.' in a name are '-'
	spaces     bool // white space and control characters around names and values are ignored
	contains   bool // whatever contains "chunked" is chunked
	unfold     bool // a line that starts with white space goes on with the one before
	lengthWins bool // Content-Length beats Transfer-Encoding
	lastLength bool // of several lengths the last counts
}

// laxReaders is each leniency alone, none, and all but those that exclude
// each other.
var laxReaders = []laxReader{
	{}, {bareLF: true}, {bareCR: true}, {underscore: true}, {spaces: true}, {contains: true}, {unfold: true}, {lengthWins: true}, {lastLength: true},
	{true, false, true, true, true, true, false, false}, {true, true, true, true, true, true, true, true},
}

// line cuts the first line off b.
func (l laxReader) line(b string) (line, rest string, ok bool) {
	ends := []string{"\r\n"}
	if l.bareLF {
		ends = append(ends, "\n")
	}
	if l.bareCR {
		ends = append(ends, "\r")
	}
	at, n := -1, 0
	for _, end := range ends {
		if i := strings.Index(b, end); i >= 0 && (at < 0 || i < at) {
			at, n = i, len(end)
		}
	}
	if at < 0 {
		return b, "", false
	}
	return b[:at], b[at+n:], true
}

// count returns the number of requests that the reader finds in b.
func (l laxReader) count(b string) (requests int) {
	for b = strings.TrimLeft(b, "\r\n"); b != ""; b = strings.TrimLeft(b, "\r\n") {
		requests++
		length, chunked, rest := l.head(b)
		switch {
		case chunked && (length < 0 || !l.lengthWins):
			b = l.skipChunks(rest)
		case length > len(rest):
			b = ""
		default:
			b = rest[max(0, length):]
		}
	}
	return requests
}

func (l laxReader) head(b string) (length int, chunked bool, rest string) {
	length = -1
	_, b, _ = l.line(b)
	for {
		line, after, ok := l.line(b)
		b = after
		if line == "" || !ok {
			return length, chunked, b
		}
		for l.unfold && b != "" && (b[0] == ' ' || b[0] == '\t') {
			var more string
			more, b, _ = l.line(b)
			line += more
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.ToLower(strings.Trim(value, " \t"))
		if l.spaces {
			name = strings.TrimFunc(name, func(r rune) bool { return r <= ' ' })
			value = strings.TrimFunc(value, func(r rune) bool { return r <= ' ' })
		}
		if l.underscore {
			name = strings.NewReplacer("_", "-", ".", "-").Replace(name)
		}
		switch name {
		case "content-length":
			if n, err := strconv.Atoi(value); err == nil && (length < 0 || l.lastLength) {
				length = n
			}
		case "transfer-encoding":
			chunked = chunked || value == "chunked" || l.contains && strings.Contains(value, "chunked")
		}
	}
}

func (l laxReader) skipChunks(b string) string {
	for {
		line, after, _ := l.line(b)
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil || int(n) > len(after) {
			return ""
		}
		b = after[n:]
		if n == 0 {
			for line = "-"; line != ""; {
				line, b, _ = l.line(b)
			}
			return b
		}
		_, b, _ = l.line(b)
	}
}

// checkReaders fails unless every reader finds as many requests in what is
// forwarded of a client's bytes as were forwarded, and returns their number.
func checkReaders(t *testing.T, payload []byte) int {
	t.Helper()
	exchanges, _, _ := serve(bytes.Clone(payload))
	var stream []byte
	for _, e := range exchanges {
		stream = append(append(stream, e.head...), e.body...)
	}
	for _, l := range laxReaders {
		if l.bareCR || l.bareLF {
			continue // these may find anything in a body
		}
		if got := l.count(string(stream)); got != len(exchanges) {
			t.Errorf("%q\nwas forwarded as %d requests, %q\nof which %+v makes %d", payload, len(exchanges), stream, l, got)
		}
	}
	for _, e := range exchanges {
		for _, l := range laxReaders {
			if got := l.count(string(e.head)); got != 1 {
				t.Errorf("%q\nwas forwarded with the head %q\nof which %+v makes %d requests", payload, e.head, l, got)
			}
		}
	}
	if got := countByNetHTTP(t, stream); got != len(exchanges) {
		t.Errorf("%q\nwas forwarded as %d requests, %q\nof which net/http makes %d", payload, len(exchanges), stream, got)
	}
	return len(exchanges)
}

func countByNetHTTP(t *testing.T, stream []byte) (requests int) {
	t.Helper()
	src := bufio.NewReader(bytes.NewReader(stream))
	for {
		req, err := http.ReadRequest(src)
		if err == io.EOF {
			return requests
		}
		if err != nil {
			t.Errorf("net/http does not read %q: %v", stream, err)
			return requests
		}
		requests++
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Errorf("net/http does not read the body in %q: %v", stream, err)
			return requests
		}
	}
}
