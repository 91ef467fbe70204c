package http1

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// wide are limits that no test input reaches.
var wide = &Limits{MaxLine: 1 << 20, MaxHeadBytes: 1 << 21, MaxFields: 1 << 16}

// requestMeaning is everything that a parsed request says, to compare parses.
func requestMeaning(r *Request) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %q path=%q query=%q,%t host=%q authority=%q expect100=%t trailers=%t\n",
		r.Method, r.Target, r.Path, r.Query, r.HasQuery, r.Host, r.Authority, r.Expect100, r.AcceptTrailers)
	messageMeaning(&s, &r.Message)
	return s.String()
}

func responseMeaning(r *Response) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d %q keepalive=%d\n", r.Status, r.ReasonPhrase, r.KeepAliveTimeout)
	messageMeaning(&s, &r.Message)
	return s.String()
}

func messageMeaning(s *strings.Builder, m *Message) {
	fmt.Fprintf(s, "minor=%d length=%d chunked=%t close=%t upgrade=%q\n", m.Minor, m.ContentLength, m.Chunked, m.Close, m.Upgrade)
	for _, f := range m.Fields {
		fmt.Fprintf(s, "%q: %q kind=%d drop=%t\n", f.Name, f.Value, f.Kind, f.Drop)
	}
}

// exact returns a copy of b that has no byte behind it, so that reading past
// the end panics.
func exact(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c[:len(b):len(b)]
}

// outcome is the result of a parse.
type outcome struct {
	n       int
	err     error
	meaning string
}

func (o outcome) String() string {
	switch {
	case o.err != nil:
		return "error: " + o.err.Error()
	case o.n == 0:
		return "incomplete"
	}
	return fmt.Sprintf("%d bytes, %s", o.n, o.meaning)
}

// parser is what the heads have in common for the tests below.
type parser func(buf []byte) outcome

func requestParser(lim *Limits) parser {
	r := new(Request)
	return func(buf []byte) outcome {
		n, err := ParseRequest(buf, lim, r)
		o := outcome{n: n, err: err}
		if n > 0 {
			o.meaning = requestMeaning(r)
		}
		if n > 0 || err != nil {
			r.Reset()
		}
		return o
	}
}

func responseParser(lim *Limits) parser {
	r := new(Response)
	return func(buf []byte) outcome {
		n, err := ParseResponse(buf, lim, r)
		o := outcome{n: n, err: err}
		if n > 0 {
			o.meaning = responseMeaning(r)
		}
		if n > 0 || err != nil {
			r.Reset()
		}
		return o
	}
}

// checkSplits fails unless parsing b in pieces ends as parsing it whole does:
// byte by byte in one buffer, byte by byte in a buffer that moves each time, and
// in two pieces cut at each of its bytes.
func checkSplits(t *testing.T, fresh func() parser, b []byte) outcome {
	t.Helper()
	whole := fresh()(exact(b))
	compare := func(how string, got outcome) {
		t.Helper()
		if got != whole {
			t.Errorf("%q\nwhole: %s\n%s: %s", b, whole, how, got)
		}
	}
	staying, moving := fresh(), fresh() // in one place, and in another each time
	memory := exact(b)
	var stayed, moved outcome
	for i := 1; i <= len(b) && stayed.n == 0 && stayed.err == nil; i++ {
		stayed = staying(memory[:i:i])
	}
	var left []byte
	for i := 1; i <= len(b) && moved.n == 0 && moved.err == nil; i++ {
		clear(left) // a view into the place that the bytes have left would show
		left = exact(b[:i])
		moved = moving(left)
	}
	compare("byte by byte", stayed)
	compare("byte by byte, moving", moved)
	if whole.n > 0 && whole.n < len(b) {
		compare("without what follows", fresh()(exact(b[:whole.n])))
	}
	for i := 1; i < len(b); i++ {
		p, memory := fresh(), exact(b)
		first := p(memory[:i:i])
		if first.n > 0 || first.err != nil {
			compare(fmt.Sprintf("first %d bytes", i), first)
			break
		}
		compare(fmt.Sprintf("cut at %d", i), p(memory))
	}
	return whole
}

func splitRequest(t *testing.T, lim *Limits, b string) outcome {
	t.Helper()
	return checkSplits(t, func() parser { return requestParser(lim) }, []byte(b))
}

func splitResponse(t *testing.T, lim *Limits, b string) outcome {
	t.Helper()
	return checkSplits(t, func() parser { return responseParser(lim) }, []byte(b))
}

// mustParseRequest parses a request that must be good.
func mustParseRequest(t *testing.T, msg string) *Request {
	t.Helper()
	r := new(Request)
	if n, err := ParseRequest([]byte(msg), nil, r); err != nil || n == 0 {
		t.Fatalf("%q: got %d, %v", msg, n, err)
	}
	return r
}

func mustParseResponse(t *testing.T, msg string) *Response {
	t.Helper()
	r := new(Response)
	if n, err := ParseResponse([]byte(msg), nil, r); err != nil || n == 0 {
		t.Fatalf("%q: got %d, %v", msg, n, err)
	}
	return r
}

// forwarded returns the head as a proxy would send it on: what r says, with
// Drop heeded and the hop-by-hop fields written anew.
func forwarded(r *Request) []byte {
	out := AppendRequestLine(nil, r.Method, r.Target)
	if len(r.Authority) > 0 {
		out = AppendField(out, "Host", r.Authority)
	}
	if r.Chunked {
		out = AppendField(out, "Transfer-Encoding", "chunked")
	}
	if r.AcceptTrailers {
		out = AppendField(out, "TE", "trailers")
	}
	if r.Upgrade != nil {
		out = AppendField(AppendField(out, "Connection", "upgrade"), "Upgrade", r.Upgrade)
	}
	out = AppendFields(out, r.Fields, Kinds(Host))
	return append(out, "\r\n"...)
}

// fieldNames returns the names of the fields that are forwarded, or of those
// that are not.
func fieldNames(fields []Field, drop bool) string {
	var names [][]byte
	for _, f := range fields {
		if f.Drop == drop {
			names = append(names, f.Name)
		}
	}
	return string(bytes.Join(names, []byte(" ")))
}
