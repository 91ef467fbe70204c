package http1

import (
	"fmt"
	"strings"
	"testing"
)

const ok200 = "HTTP/1.1 200 OK\r\n"

var refusedResponses = []refusal{
	// The status line.
	{"other protocol", 42, "RFC 9112 4", 502, "ICY 200 OK\r\n\r\n"},
	{"request", 42, "RFC 9112 4", 502, "GET / HTTP/1.1\r\n\r\n"},
	{"HTTP/2", 42, "RFC 9112 4", 502, "HTTP/2.0 200 OK\r\n\r\n"},
	{"HTTP/1.2", 42, "RFC 9112 4", 502, "HTTP/1.2 200 OK\r\n\r\n"},
	{"no space", 42, "RFC 9112 4", 502, "HTTP/1.1\r\n\r\n"},
	{"tab", 42, "RFC 9112 4", 502, "HTTP/1.1\t200 OK\r\n\r\n"},
	{"empty line first", 42, "RFC 9112 4", 502, "\r\nHTTP/1.1 200 OK\r\n\r\n"},
	{"no status", 42, "RFC 9110 15", 502, "HTTP/1.1 \r\n\r\n"},
	{"two digits", 42, "RFC 9110 15", 502, "HTTP/1.1 20 OK\r\n\r\n"},
	{"four digits", 42, "RFC 9110 15", 502, "HTTP/1.1 2000 OK\r\n\r\n"},
	{"two spaces", 42, "RFC 9110 15", 502, "HTTP/1.1  200 OK\r\n\r\n"},
	{"status 099", 42, "RFC 9110 15", 502, "HTTP/1.1 099 OK\r\n\r\n"},
	{"status 600", 42, "RFC 9110 15", 502, "HTTP/1.1 600 OK\r\n\r\n"},
	{"tab behind the status", 42, "RFC 9110 15", 502, "HTTP/1.1 200\tOK\r\n\r\n"},
	{"bare LF", 26, "RFC 9112 4", 502, "HTTP/1.1 200 OK\nX: y\n\n"},
	{"bare LF without a reason", 26, "RFC 9110 15", 502, "HTTP/1.1 200\n\n"},
	{"bare CR", 26, "RFC 9112 4", 502, "HTTP/1.1 200 O\rK\r\n\r\n"},
	{"control character in the reason", 26, "RFC 9112 4", 502, "HTTP/1.1 200 O\x00K\r\n\r\n"},

	// Fields: as in requests.
	{"folded field", 6, "RFC 9112 5.2", 502, ok200 + "X: a\r\n b\r\n\r\n"},
	{"space before the first field", 6, "RFC 9112 2.2", 502, ok200 + " X: a\r\n\r\n"},
	{"space before the colon", 5, "RFC 9112 5.1", 502, ok200 + "X : a\r\n\r\n"},
	{"control character in a value", 26, "RFC 9110 5.5", 502, ok200 + "X: a\x00b\r\n\r\n"},
	{"CR in a value", 26, "RFC 9112 2.2", 502, ok200 + "X: a\rSet-Cookie: b\r\n\r\n"},
	{"LF in a value", 26, "RFC 9112 2.2", 502, ok200 + "X: a\nSet-Cookie: b\r\n\r\n"},
	{"bad name", 26, "RFC 9112 5.1", 502, ok200 + "X[]: a\r\n\r\n"},
	{"bad Connection", 18, "RFC 9110 7.6.1", 502, ok200 + "Connection: a b\r\n\r\n"},

	// Framing.
	{"CL and TE", 1, "RFC 9112 6.1, 6.3", 502, ok200 + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"different CLs", 2, "RFC 9112 6.3", 502, ok200 + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n"},
	{"list of CLs", 2, "RFC 9110 8.6, RFC 9112 6.3", 502, ok200 + "Content-Length: 3,3\r\n\r\n"},
	{"negative CL", 2, "RFC 9110 8.6, RFC 9112 6.3", 502, ok200 + "Content-Length: -3\r\n\r\n"},
	{"other coding", 3, "RFC 9112 6.1", 502, ok200 + "Transfer-Encoding: gzip, chunked\r\n\r\n"},
	{"other coding alone", 3, "RFC 9112 6.1, 6.3, 7.1", 502, ok200 + "Transfer-Encoding: identity\r\n\r\n"},
	{"two TE fields", 3, "RFC 9112 6.1, 7.1", 502, ok200 + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"TE in HTTP/1.0", 4, "RFC 9112 6.1", 502, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"fields without end", 42, "RFC 6585 5", 502, ok200 + strings.Repeat("X: y\r\n", 101)},
	{"head without end", 42, "RFC 6585 5", 502, ok200 + "X: " + strings.Repeat("y", 64<<10)},
	{"Connection options without end", 18, "RFC 9110 7.6.1", 502, ok200 + "Connection: " + strings.Repeat("a,", 33) + "\r\n\r\n"},
	{"reason without end", 42, "RFC 6585 5", 502, ok200[:15] + strings.Repeat("a", 9<<10)},
}

func TestRefusedResponsesAreRefusedForTheReasonOfTheirSection(t *testing.T) {
	for _, c := range refusedResponses {
		t.Run(c.name, func(t *testing.T) {
			if len(c.message) > 1000 {
				checkRefusal(t, c, responseParser(nil)([]byte(c.message)))
				return
			}
			checkRefusal(t, c, splitResponse(t, nil, c.message))
		})
	}
}

// How bodies are delimited: framing is by a GET, by a HEAD.
var acceptedResponses = []struct{ name, message, want string }{
	{"length", ok200 + "Content-Length: 5\r\n\r\n", "200 OK length=5 none"},
	{"the same length twice", ok200 + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "200 OK length=5 none"},
	{"length of 0", ok200 + "Content-Length: 0\r\n\r\n", "200 OK none none"},
	{"chunked", ok200 + "Transfer-Encoding: Chunked\r\n\r\n", "200 OK chunked none"},
	{"until close", ok200 + "\r\n", "200 OK until-close none"},
	{"until close, HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", "200 OK until-close none close"},
	{"HTTP/1.0 that stays", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", "200 OK length=1 none"},
	{"close", ok200 + "Connection: close\r\nContent-Length: 1\r\n\r\n", "200 OK length=1 none close"},
	{"no reason", "HTTP/1.1 204 \r\n\r\n", "204  none none"},
	{"no reason and no space", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", "200  length=1 none"},
	{"odd reason", "HTTP/1.1 404 \tN\xc3\xb6 \r\nContent-Length: 1\r\n\r\n", "404 \tN\xc3\xb6  length=1 none"},
	{"unregistered status", "HTTP/1.1 599 x\r\n\r\n", "599 x until-close none"},
	{"100", "HTTP/1.1 100 Continue\r\n\r\n", "100 Continue none none"},
	{"103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "103 Early Hints none none"},
	{"204 with a length of 0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "204 No Content none none"},
	{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204 No Content none none close"},
	{"204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "204 No Content none none close"},
	{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 Not Modified none none"},
	{"WebSocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n", "101 Switching Protocols none none upgrade=websocket"},
	{"101 to something else", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "101 Switching Protocols none none"},
	{"101 without Connection", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "101 Switching Protocols none none"},
	{"200 with Upgrade", ok200 + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "200 OK none none"},
	{"keep-alive timeout", ok200 + "Keep-Alive: max=5, Timeout=15\r\nContent-Length: 0\r\n\r\n", "200 OK none none timeout=15"},
	{"odd keep-alive timeouts", ok200 + "Keep-Alive: timeout, timeout=, timeout=\"5\", timeout=7\r\nContent-Length: 0\r\n\r\n", "200 OK none none"},
	{"endless keep-alive timeout", ok200 + "Keep-Alive: timeout=99999999999999999999\r\nContent-Length: 0\r\n\r\n", "200 OK none none"},
}

func TestAcceptedResponsesMeanOneThing(t *testing.T) {
	for _, c := range acceptedResponses {
		t.Run(c.name, func(t *testing.T) {
			if o := splitResponse(t, nil, c.message); o.n != len(c.message) {
				t.Fatalf("%q: got %s", c.message, o)
			}
			r := mustParseResponse(t, c.message)
			got := fmt.Sprintf("%d %s %s %s", r.Status, r.ReasonPhrase, framingOf(r, "GET"), framingOf(r, "HEAD"))
			if r.Close {
				got += " close"
			}
			if r.Upgrade != nil {
				got += " upgrade=" + string(r.Upgrade)
			}
			if r.KeepAliveTimeout > 0 {
				got += fmt.Sprint(" timeout=", r.KeepAliveTimeout)
			}
			if got != c.want {
				t.Errorf("%q\ngot  %s\nwant %s", c.message, got, c.want)
			}
		})
	}
}

// framingOf puts BodyFraming into a word.
func framingOf(r *Response, method string) string {
	length, chunked, untilClose := r.BodyFraming([]byte(method))
	switch {
	case chunked && length == -1:
		return "chunked"
	case untilClose && length == -1:
		return "until-close"
	case length == 0:
		return "none"
	}
	return fmt.Sprint("length=", length)
}

func TestLengthIsKeptWhereItSpeaksOfAnotherResponse(t *testing.T) { // statement 14
	for msg, want := range map[string]string{
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n": "Content-Length ETag",
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nETag: x\r\n\r\n":   "ETag",
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: x\r\n\r\n":  "Link",
		ok200 + "Content-Length: 5\r\nETag: x\r\n\r\n":                      "Content-Length ETag",
	} {
		r := mustParseResponse(t, msg)
		if got := fieldNames(r.Fields, false); got != want {
			t.Errorf("%q keeps %s", msg, got)
		}
	}
}
