package http1

import (
	"net/http"
	"strings"
	"testing"
)

func TestStatusLinesAreThoseOfTheRegistry(t *testing.T) {
	for status := 100; status < 600; status++ {
		line := string(AppendStatusLine(nil, status))
		r := mustParseResponse(t, line+"\r\n")
		if r.Status != status {
			t.Errorf("%q has status %d", line, r.Status)
		}
		// The registry has since renamed two, and never knew 418.
		want := strings.NewReplacer("Request Entity Too Large", "Content Too Large", "Request URI Too Long", "URI Too Long",
			"Requested Range Not Satisfiable", "Range Not Satisfiable", "Unprocessable Entity", "Unprocessable Content",
			"I'm a teapot", "", "Not Extended", "").Replace(http.StatusText(status))
		if got := string(r.ReasonPhrase); got != want {
			t.Errorf("%d: got %q, want %q", status, got, want)
		}
	}
	if got := string(AppendStatusLine(nil, 999)); got != "HTTP/1.1 999 \r\n" {
		t.Errorf("got %q", got)
	}
}

func TestHeadsAreWrittenAsTheyAreRead(t *testing.T) {
	r := mustParseRequest(t, "GET /a?b HTTP/1.1\r\nhost: A\r\nX-A:  1\r\nConnection: x-c\r\nX-B: 2\r\nX-C: 3\r\n\r\n")
	out := AppendRequestLine([]byte("> "), r.Method, r.Target)
	out = AppendField(out, "Host", r.Authority)
	out = AppendFields(out, r.Fields, Kinds(Host))
	out = AppendInt(append(out, "Content-Length: "...), 1<<40)
	const want = "> GET /a?b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 1099511627776"
	if string(out) != want {
		t.Errorf("got %q\nwant %q", out, want)
	}
	if got := string(AppendFields(nil, r.Fields, 0)); got != "host: a\r\nX-A: 1\r\nX-B: 2\r\n" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkAppendFields(b *testing.B) {
	var r Request
	if n, err := ParseRequest([]byte(browserGet), nil, &r); n == 0 {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	skip := Kinds(Host, XForwardedFor, XForwardedProto, XForwardedHost, Forwarded, XRequestID)
	b.ReportAllocs()
	for b.Loop() {
		out := AppendRequestLine(buf, r.Method, r.Target)
		out = AppendField(out, "Host", r.Authority)
		_ = AppendFields(out, r.Fields, skip)
	}
}
