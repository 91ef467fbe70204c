package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

var _ route.HeaderSource = (*Request)(nil)

// The forms beside those of refusedRequests that are good, and what they mean.
// want is method, target, host and authority, then what else is told apart.
var acceptedRequests = []struct {
	name      string
	statement int
	message   string
	want      string
}{
	{"the least", 9, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a a"},
	{"HTTP/1.0 without Host", 9, "GET / HTTP/1.0\r\n\r\n", "GET /   close"},
	{"HTTP/1.0 that stays", 0, "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", "GET / a a"},
	{"HTTP/1.0 that stays and does not", 0, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", "GET / a a close"},
	{"one empty line first", 7, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a a"},
	{"unknown method", 0, "m!x / HTTP/1.1\r\nHost: a\r\n\r\n", "m!x / a a"},
	{"TRACE in lower case, which is another method", 26, "trace / HTTP/1.1\r\nHost: a\r\n\r\n", "trace / a a"},
	{"length", 2, post + "Content-Length: 42\r\n\r\n", "POST / a a length=42"},
	{"length of 0", 2, post + "Content-Length: 0\r\n\r\n", "POST / a a length=0"},
	{"length with zeros", 2, post + "Content-Length: 0003\r\n\r\n", "POST / a a length=3"},
	{"length of 2^63-1", 2, post + "Content-Length: 9223372036854775807\r\n\r\n", "POST / a a length=9223372036854775807"},
	{"the same length twice", 2, post + "Content-Length: 3\r\nContent-length: 3\r\n\r\n", "POST / a a length=3"},
	{"chunked", 3, post + "Transfer-Encoding: chunked\r\n\r\n", "POST / a a chunked"},
	{"chunked in capitals", 3, post + "TRANSFER-ENCODING:\tCHUNKED \r\n\r\n", "POST / a a chunked"},
	{"chunked GET", 3, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / a a chunked"},
	{"obs-text in a value", 7, post + "X-A: \x80\xff\r\n\r\n", "POST / a a"},
	{"tab in a value", 7, post + "X-A: a\tb\r\n\r\n", "POST / a a"},
	{"empty value", 5, post + "X-A:\r\n\r\n", "POST / a a"},
	{"host in capitals", 25, "GET / HTTP/1.1\r\nHost: WWW.Example.COM\r\n\r\n", "GET / www.example.com www.example.com"},
	{"host with a trailing dot", 25, "GET / HTTP/1.1\r\nHost: A.b.\r\n\r\n", "GET / a.b a.b."},
	{"host with a port", 25, "GET / HTTP/1.1\r\nHost: A:8080\r\n\r\n", "GET / a a:8080"},
	{"host with a dot and a port", 25, "GET / HTTP/1.1\r\nHost: a.b.:65535\r\n\r\n", "GET / a.b a.b.:65535"},
	{"host with an underscore", 25, "GET / HTTP/1.1\r\nHost: a_b.c\r\n\r\n", "GET / a_b.c a_b.c"},
	{"punycode", 25, "GET / HTTP/1.1\r\nHost: XN--Bcher-KVA.example\r\n\r\n", "GET / xn--bcher-kva.example xn--bcher-kva.example"},
	{"IPv4", 25, "GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n", "GET / 10.0.0.1 10.0.0.1:80"},
	{"IPv6", 25, "GET / HTTP/1.1\r\nHost: [FE80::A]:80\r\n\r\n", "GET / [fe80::a] [fe80::a]:80"},
	{"IPv6 in full", 25, "GET / HTTP/1.1\r\nHost: [1:2:3:4:5:6:7:8]\r\n\r\n", "GET / [1:2:3:4:5:6:7:8] [1:2:3:4:5:6:7:8]"},
	{"IPv6 with all but one group", 25, "GET / HTTP/1.1\r\nHost: [1:2:3::5:6:7:8]\r\n\r\n", "GET / [1:2:3::5:6:7:8] [1:2:3::5:6:7:8]"},
	{"IPv4 in IPv6", 25, "GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n", "GET / [::ffff:1.2.3.4] [::ffff:1.2.3.4]"},
	{"absolute-form", 10, "GET HTTP://B:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y b b:80"},
	{"absolute-form in HTTP/1.0", 10, "GET http://b/x HTTP/1.0\r\n\r\n", "GET /x b b close"},
	{"absolute-form without a path", 10, "GET http://Bb HTTP/1.1\r\nHost: a\r\n\r\n", "GET / bb bb"},
	{"absolute-form with a query only", 10, "GET http://Bb:80?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q bb bb:80"},
	{"absolute-form with a dot and without a path", 10, "GET http://b.?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q b b."},
	{"absolute-form with a path to clean", 10, "GET http://b/x/../y?/../ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /y?/../ b b"},
	{"asterisk", 11, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a a"},
	{"asterisk in absolute-form", 11, "OPTIONS http://b:80 HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * b b:80"},
	{"no asterisk in absolute-form", 11, "OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / b b"},
	{"no asterisk in absolute-form with a query", 11, "OPTIONS http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS /?q b b"},
	{"two slashes first", 23, "GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b/c a a"},
	{"path to clean", 23, "GET /%61/./%2f//b/../c%2e?d/../%2e HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a/%2F/c.?d/../%2e a a"},
	{"path to clean without a query", 23, "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b a a"},
	{"what browsers do not escape", 23, "GET /a|\"{}?b='<>^`|\\ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a|\"{}?b='<>^`|\\ a a"},
	{"empty query", 24, "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET /? a a"},
	{"query with question marks and broken escapes", 24, "GET /?a?b%&%zz;//../ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?a?b%&%zz;//../ a a"},
	{"expectation", 12, post + "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n", "POST / a a length=1 expect100"},
	{"expectation said twice", 12, post + "Content-Length: 1\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n", "POST / a a length=1 expect100"},
	{"expectation without a body", 12, post + "Expect: 100-continue\r\n\r\n", "POST / a a"},
	{"expectation in HTTP/1.0", 12, "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "POST /   length=1 close"},
	{"upgrade to WebSocket", 17, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", "GET / a a upgrade=websocket"},
	{"upgrade with a choice", 17, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n", "GET / a a upgrade=websocket"},
	{"upgrade to h2c", 17, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET / a a"},
	{"upgrade that Connection does not name", 17, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / a a"},
	{"upgrade with a body", 17, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", "GET / a a length=1"},
	{"upgrade of a POST", 17, "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "POST / a a"},
	{"upgrade in HTTP/1.0", 17, "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /   close"},
	{"trailers wanted", 15, "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5 , Trailers\r\n\r\n", "GET / a a trailers"},
	{"close", 0, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive ,, CLOSE,\r\n\r\n", "GET / a a close"},
}

func TestAcceptedRequestsMeanOneThing(t *testing.T) {
	for _, c := range acceptedRequests {
		t.Run(c.name, func(t *testing.T) {
			if o := splitRequest(t, nil, c.message); o.n != len(c.message) {
				t.Fatalf("%q (statement %d): got %s", c.message, c.statement, o)
			}
			r := mustParseRequest(t, c.message)
			if got := brief(r); got != c.want {
				t.Errorf("%q (statement %d)\ngot  %s\nwant %s", c.message, c.statement, got, c.want)
			}
			target := string(r.Path)
			if r.HasQuery {
				target += "?" + string(r.Query)
			}
			if target != string(r.Target) {
				t.Errorf("target %q is not path and query %q", r.Target, target)
			}
		})
	}
}

func brief(r *Request) string {
	s := fmt.Sprintf("%s %s %s %s", r.Method, r.Target, r.Host, r.Authority)
	if r.ContentLength >= 0 {
		s += fmt.Sprint(" length=", r.ContentLength)
	}
	for _, flag := range []struct {
		on   bool
		name string
	}{
		{r.Chunked, "chunked"}, {r.Close, "close"}, {r.Expect100, "expect100"}, {r.AcceptTrailers, "trailers"},
		{r.Upgrade != nil, "upgrade=" + string(r.Upgrade)},
	} {
		if flag.on {
			s += " " + flag.name
		}
	}
	return s
}

func TestForwardedRequestsMeanTheSameAgain(t *testing.T) {
	for _, c := range acceptedRequests {
		checkForwarded(t, []byte(c.message))
	}
}

// checkForwarded fails unless what is forwarded of a good request parses to the
// same request, and is forwarded unchanged.
func checkForwarded(t *testing.T, msg []byte) {
	t.Helper()
	var r, again Request
	if n, _ := ParseRequest(exact(msg), wide, &r); n == 0 || len(r.Authority) == 0 {
		return
	}
	out := forwarded(&r)
	n, err := ParseRequest(exact(out), wide, &again)
	if n != len(out) {
		t.Fatalf("%q was accepted, but then not %q: %d, %v", msg, out, n, err)
	}
	r.Minor, r.Close, again.Close = 1, false, false
	if a, b := brief(&r), brief(&again); a != b {
		t.Errorf("%q\nmeans     %s\nforwarded %s\nas %q", msg, a, b, out)
	}
	if twice := forwarded(&again); string(twice) != string(out) {
		t.Errorf("%q\nforwarded once  %q\nforwarded twice %q", msg, out, twice)
	}
}

func TestFieldsAreTrimmedAndKeptInOrder(t *testing.T) {
	r := mustParseRequest(t, "GET / HTTP/1.1\r\nhOST: \t a \t\r\nX-B:1\r\nx-a:\t 2  3 \r\nX-B:\r\n\r\n")
	got := ""
	for _, f := range r.Fields {
		got += fmt.Sprintf("%s=%s.", f.Name, f.Value)
	}
	if want := "hOST=a.X-B=1.x-a=2  3.X-B=."; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRepeatedAndPaddedFieldsAreForwardedOnceAndBare(t *testing.T) {
	r := mustParseRequest(t, post+"Content-Length: 003\r\nContent-Length: 003\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n")
	if got, want := string(AppendFields(nil, r.Fields, Kinds(Host))), "Content-Length: 3\r\nExpect: 100-continue\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAbsoluteFormOverrulesHostEverywhere(t *testing.T) {
	r := mustParseRequest(t, "GET http://Good.example:81/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if v, ok := r.Header("host"); !ok || string(v) != "good.example:81" || string(r.Fields[0].Value) != "good.example:81" {
		t.Errorf("Host is still %q, %q", v, r.Fields[0].Value)
	}
}

func TestHeaderJoinsRepeatedFieldsAndSkipsDroppedOnes(t *testing.T) {
	r := mustParseRequest(t, "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nx-a:\r\nX-A: 3\r\nConnection: x-c\r\nX-C: 4\r\nX_D: 5\r\nX-Long-~Name: 6\r\n\r\n")
	for _, c := range []struct{ name, want string }{
		{"x-a", "1, , 3"}, {"x-b", "2"}, {"x-c", "-"}, {"x_d", "-"}, {"connection", "-"}, {"x-none", "-"}, {"x-long-~name", "6"},
	} {
		v, ok := r.Header(c.name)
		if !ok {
			v = []byte("-")
		}
		if string(v) != c.want {
			t.Errorf("%s: got %q, want %q", c.name, v, c.want)
		}
	}
}

func TestLimitsHoldToTheByte(t *testing.T) {
	lim := &Limits{MaxLine: 40, MaxHeadBytes: 100, MaxFields: 3}
	line := func(n int) string { return "GET /" + strings.Repeat("a", n-len("GET / HTTP/1.1")) + " HTTP/1.1" }
	head := func(n int) string {
		h := "GET / HTTP/1.1\r\nHost: a\r\nX: "
		return h + strings.Repeat("b", n-len(h)-4) + "\r\n\r\n"
	}
	for _, c := range []struct {
		name, message string
		status        int // 0: good
	}{
		{"line at the limit", line(40) + "\r\nHost: a\r\n\r\n", 0},
		{"line over the limit", line(41) + "\r\nHost: a\r\n\r\n", 414},
		{"line at the limit behind an empty line", "\r\n" + line(40) + "\r\nHost: a\r\n\r\n", 0},
		{"line over the limit behind an empty line", "\r\n" + line(41) + "\r\nHost: a\r\n\r\n", 414},
		{"line without end", strings.Repeat("a", 1000), 414},
		{"head at the limit", head(100), 0},
		{"head over the limit", head(101), 431},
		{"head without end", head(100)[:90] + strings.Repeat("c", 1000), 431},
		{"fields at the limit", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nX: b\r\n\r\n", 0},
		{"fields over the limit", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nX: b\r\nX: b\r\n\r\n", 431},
	} {
		o := splitRequest(t, lim, c.message)
		status := 0
		if e, ok := o.err.(*Error); ok {
			status = e.Status
		}
		if status != c.status || (status == 0) != (o.n == len(c.message)) {
			t.Errorf("%s: got %s, want %d", c.name, o, c.status)
		}
	}
}

func TestDefaultLimitsAreThoseOfAnEdge(t *testing.T) {
	fields := strings.Repeat("X: y\r\n", 99)
	if o := splitlessRequest("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"); o.n == 0 {
		t.Errorf("100 fields: %s", o)
	}
	for status, msg := range map[int]string{
		431: "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "X: y\r\n\r\n",
		414: "GET /" + strings.Repeat("a", 8<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		if e, ok := splitlessRequest(msg).err.(*Error); !ok || e.Status != status {
			t.Errorf("got %v, want %d", e, status)
		}
	}
	if e, ok := splitlessRequest("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n").err.(*Error); !ok || e.Status != 431 {
		t.Errorf("got %v, want 431", e)
	}
}

func splitlessRequest(msg string) outcome { return requestParser(&Limits{})([]byte(msg)) }
