package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// splitLimit is the longest input that is tried cut at each of its bytes.
const splitLimit = 400

func FuzzParseRequest(f *testing.F) {
	for _, c := range refusedRequests {
		f.Add([]byte(c.message))
	}
	for _, c := range acceptedRequests {
		f.Add([]byte(c.message))
	}
	for _, v := range readVectors(f) {
		f.Add(v.bytes(f))
	}
	f.Add([]byte(browserGet))
	f.Fuzz(func(t *testing.T, msg []byte) {
		parse := func() parser { return requestParser(&Limits{MaxLine: 100, MaxHeadBytes: 300, MaxFields: 8}) }
		if len(msg) <= splitLimit {
			checkSplits(t, parse, msg)
		}
		checkForwarded(t, msg)
		checkRequestAgainstNetHTTP(t, msg)
		checkReaders(t, msg)
	})
}

// checkRequestAgainstNetHTTP fails unless a request that is accepted means the
// same to net/http.
func checkRequestAgainstNetHTTP(t *testing.T, msg []byte) {
	t.Helper()
	var r Request
	n, _ := ParseRequest(exact(msg), wide, &r)
	if n == 0 {
		return
	}
	// net/http knows no empty line before a request.
	want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(msg[:n], []byte("\r\n")))))
	if err != nil {
		t.Fatalf("%q is accepted, but net/http says %v", msg[:n], err)
	}
	length := want.ContentLength
	chunked := len(want.TransferEncoding) > 0
	if length == 0 && r.ContentLength < 0 || chunked {
		length = -1
	}
	if want.Method != string(r.Method) || want.ProtoMinor != int(r.Minor) || length != r.ContentLength || chunked != r.Chunked || want.Close != r.Close {
		t.Errorf("%q\nours     %s\nnet/http %+v", msg[:n], requestMeaning(&r), want)
	}
	if !strings.EqualFold(want.Host, string(r.Authority)) {
		t.Errorf("%q: host %q, by net/http %q", msg[:n], r.Authority, want.Host)
	}
	if want.URL.RawQuery != string(r.Query) || (want.URL.ForceQuery || want.URL.RawQuery != "") != r.HasQuery {
		t.Errorf("%q: query %q, by net/http %q", msg[:n], r.Query, want.URL.RawQuery)
	}
	if raw := "/" + strings.TrimLeft(want.URL.EscapedPath(), "/"); !strings.Contains(raw, "%") && !strings.Contains(raw, "/.") &&
		!strings.Contains(raw, "//") && raw != string(r.Path) && want.Method != "OPTIONS" && !strings.ContainsAny(string(r.Path), "\"<>^`{|}[]") {
		t.Errorf("%q: path %q, by net/http %q", msg[:n], r.Path, raw)
	}
	for name, values := range want.Header {
		ours := 0
		for _, f := range r.Fields {
			if strings.EqualFold(string(f.Name), name) {
				ours++
			}
		}
		// Lengths are merged; Cache-Control is made up of Pragma.
		if ours != len(values) && name != "Content-Length" && name != "Cache-Control" {
			t.Errorf("%q: %d fields %s, by net/http %d", msg[:n], ours, name, len(values))
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	for _, c := range refusedResponses {
		f.Add([]byte(c.message), false)
	}
	for _, c := range acceptedResponses {
		f.Add([]byte(c.message), false)
		f.Add([]byte(c.message), true)
	}
	f.Add([]byte(smallOK), false)
	f.Fuzz(func(t *testing.T, msg []byte, head bool) {
		parse := func() parser { return responseParser(&Limits{MaxLine: 100, MaxHeadBytes: 300, MaxFields: 8}) }
		if len(msg) <= splitLimit {
			checkSplits(t, parse, msg)
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		checkResponse(t, msg, method)
	})
}

// checkResponse fails unless a response that is accepted means the same to
// net/http, and again when it is forwarded.
func checkResponse(t *testing.T, msg []byte, method string) {
	t.Helper()
	var r, again Response
	given := exact(msg)
	n, _ := ParseResponse(given, wide, &r)
	if !bytes.Equal(given, msg) {
		t.Fatalf("%q was changed to %q", msg, given)
	}
	if n == 0 {
		return
	}
	want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(msg[:n])), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q is accepted, but net/http says %v", msg[:n], err)
	}
	length, chunked, untilClose := r.BodyFraming([]byte(method))
	byNetHTTP := func() (length int64, chunked, untilClose bool) {
		switch {
		case want.Body == http.NoBody:
			return 0, false, false
		case len(want.TransferEncoding) > 0:
			return -1, true, false
		}
		return want.ContentLength, false, want.ContentLength < 0
	}
	l, c, u := byNetHTTP()
	if want.StatusCode != r.Status || want.ProtoMinor != int(r.Minor) || l != length || c != chunked || u != untilClose ||
		want.Close && !r.Close && !untilClose {
		t.Errorf("%q\nours     %s\nnet/http %+v", msg[:n], responseMeaning(&r), want)
	}

	out := AppendStatusLine(nil, r.Status)
	if r.Chunked {
		out = AppendField(out, "Transfer-Encoding", "chunked")
	}
	out = append(AppendFields(out, r.Fields, 0), "\r\n"...)
	if m, err := ParseResponse(exact(out), wide, &again); m != len(out) {
		t.Fatalf("%q was accepted, but then not %q: %d, %v", msg[:n], out, m, err)
	}
	l, c, u = again.BodyFraming([]byte(method))
	if l != length || c != chunked || u != untilClose || again.Status != r.Status {
		t.Errorf("%q\nmeans     %s\nforwarded %s", msg[:n], responseMeaning(&r), responseMeaning(&again))
	}
}

func FuzzChunked(f *testing.F) {
	for _, c := range refusedBodies {
		f.Add([]byte(c.body))
	}
	for _, v := range readVectors(f) {
		if _, body, ok := bytes.Cut(v.bytes(f), []byte("\r\n\r\n")); ok && len(body) > 0 {
			f.Add(body)
		}
	}
	f.Add([]byte("5;a=b;c=\"d\"\r\nhello\r\n6\r\n world\r\n0\r\nX-A: 1\r\nHost: b\r\n\r\nGET"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > splitLimit {
			return
		}
		results := checkChunked(t, body)
		if !results[2].done {
			return
		}
		msg := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), results[0].out...)
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(msg)))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := io.ReadAll(req.Body)
		if err != nil || string(payload) != results[2].out {
			t.Errorf("%q is forwarded as %q, which net/http reads as %q, %v", body, results[0].out, payload, err)
		}
	})
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"a", "a.b.:80", "[::1]:80", "[1:2:3:4:5:6:7:8]", "[::ffff:1.2.3.4]", "[1::]", "[::]", "1.2.3.4:65535", "a_b", "[1:2::3:4]", "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, flt := splitAuthority([]byte(s))
		address, isLiteral := strings.CutPrefix(s, "[")
		if isLiteral {
			address, _, isLiteral = strings.Cut(address, "]")
		}
		addr, err := netip.ParseAddr(address)
		if good := err == nil && addr.Is6() && addr.Zone() == ""; isLiteral && good != isIPv6([]byte(address)) {
			t.Errorf("%q: is an IPv6 address by netip: %t, by us: %t", address, good, !good)
		}
		if flt != noFault {
			return
		}
		if len(host) == 0 || !strings.HasPrefix(s, string(host)) {
			t.Errorf("%q: host %q", s, host)
		}
		again, flt := splitAuthority(host)
		if flt != noFault || string(again) != string(host) {
			t.Errorf("%q: host %q, and of that %q, %d", s, host, again, flt)
		}
		if rest := strings.TrimPrefix(s[len(host):], "."); rest != "" && rest[0] != ':' {
			t.Errorf("%q: %q is left behind the host", s, rest)
		}
	})
}
