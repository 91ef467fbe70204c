package http1

import (
	"strings"
	"testing"
)

// refusal is a message that must be refused: with that status, for the reason
// of that section. statement is the number in the list of behaviors that the
// data plane promises, 0 where the section alone asks for it.
type refusal struct {
	name      string
	statement int
	section   string
	status    int
	message   string
}

const post = "POST / HTTP/1.1\r\nHost: a\r\n"

var refusedRequests = []refusal{
	// Framing.
	{"CL and TE", 1, "RFC 9112 6.1, 6.3", 400, post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"TE and CL", 1, "RFC 9112 6.1, 6.3", 400, post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"},
	{"TE that is not served and CL", 1, "RFC 9112 6.1, 6.3", 400, post + "Transfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\n\r\n"},
	{"two different CLs", 2, "RFC 9112 6.3", 400, post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n"},
	{"two CLs that differ in zeros", 2, "RFC 9112 6.3", 400, post + "Content-Length: 3\r\nContent-Length: 03\r\n\r\n"},
	{"list of equal CLs", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 3, 3\r\n\r\n"},
	{"signed CL", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: +3\r\n\r\n"},
	{"negative CL", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: -1\r\n\r\n"},
	{"hexadecimal CL", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 0x3\r\n\r\n"},
	{"CL with an underscore", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 1_0\r\n\r\n"},
	{"CL with a space", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 4 2\r\n\r\n"},
	{"empty CL", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length:\r\n\r\n"},
	{"CL of 2^63", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 9223372036854775808\r\n\r\n"},
	{"CL of 2^64+1", 2, "RFC 9110 8.6, RFC 9112 6.3", 400, post + "Content-Length: 18446744073709551617\r\n\r\n"},
	{"unknown coding alone", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: xchunked\r\n\r\n"},
	{"identity", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: identity\r\n\r\n"},
	{"identity before chunked", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: identity, chunked\r\n\r\n"},
	{"chunked that is not final", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: chunked, gzip\r\n\r\n"},
	{"chunked twice", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: chunked, chunked\r\n\r\n"},
	{"chunked behind nothing", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: ,chunked\r\n\r\n"},
	{"nothing behind chunked", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: chunked,\r\n\r\n"},
	{"chunked in quotes", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: \"chunked\"\r\n\r\n"},
	{"chunked with a parameter", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: chunked;a=b\r\n\r\n"},
	{"empty TE", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding:\r\n\r\n"},
	{"chunked with a vertical tab", 3, "RFC 9110 5.5", 400, post + "Transfer-Encoding: \vchunked\r\n\r\n"},
	{"chunked with a form feed", 3, "RFC 9110 5.5", 400, post + "Transfer-Encoding: chunked\f\r\n\r\n"},
	{"chunked with obs-text", 3, "RFC 9112 6.1, 6.3, 7.1", 400, post + "Transfer-Encoding: chunked\xa0\r\n\r\n"},
	{"two TE fields", 3, "RFC 9112 6.1, 7.1", 400, post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"TE in two fields", 3, "RFC 9112 6.1, 7.1", 400, post + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"folded TE", 3, "RFC 9112 5.2", 400, post + "Transfer-Encoding:\r\n chunked\r\n\r\n"},
	{"coding that is not served", 3, "RFC 9112 6.1", 501, post + "Transfer-Encoding: gzip, chunked\r\n\r\n"},
	{"TE in HTTP/1.0", 4, "RFC 9112 6.1", 400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},

	// Field lines.
	{"space before the colon", 5, "RFC 9112 5.1", 400, post + "Content-Length : 3\r\n\r\n"},
	{"tab before the colon", 5, "RFC 9112 5.1", 400, post + "X-A\t: 3\r\n\r\n"},
	{"space in a name", 5, "RFC 9112 5.1", 400, post + "Transfer- Encoding: chunked\r\n\r\n"},
	{"empty name", 5, "RFC 9112 5.1", 400, post + ": x\r\n\r\n"},
	{"name with a separator", 5, "RFC 9112 5.1", 400, post + "X(A: x\r\n\r\n"},
	{"name with a control character", 5, "RFC 9112 5.1", 400, post + "X\x01A: x\r\n\r\n"},
	{"name with obs-text", 5, "RFC 9112 5.1", 400, post + "Content-Length\xa0: 3\r\n\r\n"},
	{"line without a colon", 5, "RFC 9112 5", 400, post + "X-A\r\n\r\n"},
	{"folded field", 6, "RFC 9112 5.2", 400, post + "X-A: b\r\n c\r\n\r\n"},
	{"field folded by a tab", 6, "RFC 9112 5.2", 400, post + "X-A: b\r\n\tContent-Length: 3\r\n\r\n"},
	{"space before the first field", 6, "RFC 9112 2.2", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
	{"bare CR in a value", 7, "RFC 9112 2.2", 400, post + "X-A: b\rc\r\n\r\n"},
	{"bare CR before the end of a line", 7, "RFC 9112 2.2", 400, post + "X-A: b\r\r\n\r\n"},
	{"bare CR at the start of a line", 7, "RFC 9112 2.2", 400, post + "\rX-A: b\r\n\r\n"},
	{"bare CR in a name", 7, "RFC 9112 5", 400, post + "X\rA: b\r\n\r\n"},
	{"NUL in a value", 7, "RFC 9110 5.5", 400, post + "X-A: b\x00c\r\n\r\n"},
	{"DEL in a value", 7, "RFC 9110 5.5", 400, post + "X-A: a long enough value, then \x7f\r\n\r\n"},
	{"NUL in a name", 7, "RFC 9112 5.1", 400, post + "X\x00: b\r\n\r\n"},
	{"bare LF after the request line", 7, "RFC 9112 2.3, 3", 400, "GET / HTTP/1.1\nHost: a\n\n"},
	{"bare LF after a field", 7, "RFC 9112 2.2", 400, post + "X-A: b\nX-B: c\r\n\r\n"},
	{"bare LF after a name", 7, "RFC 9112 2.2", 400, post + "X-A\n: b\r\n\r\n"},
	{"bare LF as the empty line", 7, "RFC 9112 2.2", 400, post + "\n"},

	// Host and target.
	{"no Host", 9, "RFC 9112 3.2", 400, "GET / HTTP/1.1\r\n\r\n"},
	{"two Hosts", 9, "RFC 9112 3.2", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
	{"two Hosts in HTTP/1.0", 9, "RFC 9112 3.2", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"},
	{"empty Host", 9, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
	{"Host that is a list", 9, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"},
	{"Host with user information", 9, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
	{"Host with a path", 9, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
	{"bad Host beside a good target", 9, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n"},
	{"absolute-form without Host", 9, "RFC 9112 3.2", 400, "GET http://a/ HTTP/1.1\r\n\r\n"},
	{"https in the target", 10, "RFC 9112 3.2.2, RFC 9110 7.4", 400, "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"other scheme in the target", 10, "RFC 9112 3.2.2, RFC 9110 7.4", 400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"target without a host", 10, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"target with user information", 10, "RFC 9112 3.2, RFC 3986 3.2.2", 400, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CONNECT", 11, "RFC 9110 9.3.6, 9.3.8", 405, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
	{"TRACE", 26, "RFC 9110 9.3.6, 9.3.8", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"authority-form without CONNECT", 11, "RFC 9112 3.2", 400, "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"relative target", 11, "RFC 9112 3.2", 400, "GET index.html HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"asterisk without OPTIONS", 11, "RFC 9112 3.2.4", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"asterisk with a query", 11, "RFC 9112 3.2", 400, "OPTIONS *?a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"fragment", 11, "RFC 9112 3.2", 400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"fragment behind a query", 24, "RFC 9112 3.2", 400, "GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"space in the target", 11, "RFC 9112 2.3, 3", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"tab in the target", 11, "RFC 9112 3.2", 400, "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"DEL in a long target", 11, "RFC 9112 3.2", 400, "GET /a/long/target/\x7f/and/more HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"control character in a query", 24, "RFC 9112 3.2", 400, "GET /a?b\x01 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"non-ASCII in a path", 11, "RFC 9112 3.2", 400, "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"non-ASCII in a query", 24, "RFC 9112 3.2", 400, "GET /?\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"empty target", 11, "RFC 9112 3.2", 400, "GET  HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"unknown expectation", 12, "RFC 9110 10.1.1", 417, post + "Content-Length: 3\r\nExpect: 200-ok\r\n\r\n"},
	{"list of expectations", 12, "RFC 9110 10.1.1", 417, post + "Content-Length: 3\r\nExpect: 100-continue, x\r\n\r\n"},

	// The request line.
	{"two empty lines first", 7, "RFC 9112 2.2", 400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"LF first", 7, "RFC 9112 2.2", 400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CR first", 7, "RFC 9112 2.2", 400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"space first", 0, "RFC 9112 3.1", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"TLS", 0, "RFC 9112 3.1", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	{"method with a separator", 0, "RFC 9112 3.1", 400, "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"tab behind the method", 0, "RFC 9112 3.1", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"no version (HTTP/0.9)", 0, "RFC 9112 3.2", 400, "GET /\r\nHost: a\r\n\r\n"},
	{"space behind the version", 0, "RFC 9112 2.3, 3", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
	{"two spaces before the version", 0, "RFC 9112 2.3, 3", 400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"version in lower case", 0, "RFC 9112 2.3, 3", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"},
	{"version with two digits", 0, "RFC 9112 2.3, 3", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"},
	{"other protocol", 0, "RFC 9112 2.3, 3", 400, "GET / ICAP/1.0\r\nHost: a\r\n\r\n"},
	{"CR behind the version without LF", 7, "RFC 9112 2.2", 400, "GET / HTTP/1.1\rHost: a\r\n\r\n"},
	{"HTTP/1.2", 0, "RFC 9110 15.6.6", 505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
	{"HTTP/0.9 with a version", 0, "RFC 9110 15.6.6", 505, "GET / HTTP/0.9\r\n\r\n"},
	{"preface of HTTP/2", 0, "RFC 9110 15.6.6", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"preface of HTTP/2 with version 1.1", 11, "RFC 9112 3.2.4", 400, "PRI * HTTP/1.1\r\nHost: a\r\n\r\n"},

	// Connection, path.
	{"Connection that is no list of tokens", 18, "RFC 9110 7.6.1", 400, post + "Connection: close, a b\r\n\r\n"},
	{"Connection options without end", 18, "RFC 9110 7.6.1", 400, post + "Connection: " + strings.Repeat("a,", 33) + "\r\n\r\n"},
	{"path above the root", 23, "RFC 3986 5.2.4", 400, "GET /a/../../b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"encoded path above the root", 23, "RFC 3986 5.2.4", 400, "GET /%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"path with %00", 23, "RFC 3986 7.3", 400, "GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"path with a backslash", 23, "RFC 3986 7.3", 400, "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"path with an encoded backslash", 23, "RFC 3986 7.3", 400, "GET /a%5cb HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"dots beside an encoded slash", 23, "RFC 3986 7.3", 400, "GET /a/..%2fb HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"broken escape", 23, "RFC 3986 2.1", 400, "GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"broken escape in absolute-form", 23, "RFC 3986 2.1", 400, "GET http://a/%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
}

func TestRefusedRequestsAreRefusedForTheReasonOfTheirSection(t *testing.T) {
	for _, c := range refusedRequests {
		t.Run(c.name, func(t *testing.T) {
			checkRefusal(t, c, splitRequest(t, nil, c.message))
		})
	}
}

// checkRefusal compares what came of a message with what should.
func checkRefusal(t *testing.T, c refusal, got outcome) {
	t.Helper()
	e, ok := got.err.(*Error)
	if !ok {
		t.Fatalf("%q (statement %d): got %s", c.message, c.statement, got)
	}
	if e.Status != c.status || e.Section != c.section {
		t.Errorf("%q (statement %d): got %d, %v; want %d, %s", c.message, c.statement, e.Status, e, c.status, c.section)
	}
	if e.Reason == "" || e.Detail == "" {
		t.Errorf("%v has no reason or no detail", e)
	}
}

func TestBadHostsAreRefused(t *testing.T) {
	for _, host := range []string{
		".", "..", ".a", "a..b", "a..", "a b", "a,b", "a%41", "a\x80", "http://a", "a?b", "a#b", "*", "a_b*", "a:b:c", "::1",
		"[]", "[::1", "::1]", "[::1]x", "[::1%25eth0]", "[::1%eth0]", "[1::2::3]", "[1:2:3:4:5:6:7:8:9]", "[:1]", "[12345::]",
		"[1:2:3:4:5:6:7]", "[v1.a]", "[1.2.3.4]", "[::1.2.3]", "[::256.1.1.1]", "[1:2:3:4:5:6:7::8]", "[1:2:3:4:5:6::1.2.3.4]", "[1:2:3:4:5:6:7:1.2.3.4]", "[::1.2.3.4.5]", "[::01.2.3.4]",
		"a:", "a:0", "a:65536", "a:080", "a:8a", "a:-1", "a:+80", "a:123456", "[::1]:", "[::1]:x", ":80",
		strings.Repeat("a", 255),
	} {
		msg := "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		if o := splitRequest(t, nil, msg); o.err == nil {
			t.Errorf("Host %q: got %s", host, o)
		}
		if strings.Contains(host, "?") {
			continue // in a target it starts the query
		}
		msg = "GET http://" + host + "/ HTTP/1.1\r\nHost: a\r\n\r\n"
		if o := splitRequest(t, nil, msg); o.err == nil {
			t.Errorf("target with host %q: got %s", host, o)
		}
	}
}

func TestEveryFaultSaysWhatIsWrongAndWhereThatIsWritten(t *testing.T) {
	for f := noFault + 1; f < faultCount; f++ {
		e := &requestErrors[f]
		if e.Status < 400 || e.Reason == "" || e.Detail == "" || !strings.HasPrefix(e.Section, "RFC ") {
			t.Errorf("fault %d: %+v", f, e)
		}
		if e := &responseErrors[f]; e.Status != 502 || e.Reason != "bad_response" || e.Detail == "" {
			t.Errorf("fault %d in a response: %+v", f, e)
		}
	}
}
