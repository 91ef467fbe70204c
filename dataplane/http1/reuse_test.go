package http1

import (
	"strings"
	"testing"
)

func TestParsingAllocatesNothing(t *testing.T) {
	buf := make([]byte, 8<<10)
	var req Request
	var resp Response
	requests := []string{wrkGet, browserGet, refusedRequests[0].message, "GET http://A.b:80/%61/../b?c HTTP/1.1\r\nHost: x\r\nConnection: x-a\r\nx-a: 1\r\nx-b: 2\r\nX-B: 3\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"}
	allocs := testing.AllocsPerRun(100, func() {
		for _, msg := range requests {
			n := copy(buf, msg)
			_, _ = ParseRequest(buf[:n/2], nil, &req)
			_, _ = ParseRequest(buf[:n], nil, &req)
			req.Header("x-b")
			req.Reset()
		}
	})
	if allocs > 0 {
		t.Errorf("requests: %v allocations", allocs)
	}
	allocs = testing.AllocsPerRun(100, func() {
		for _, msg := range []string{smallOK, refusedResponses[0].message} {
			n := copy(buf, msg)
			_, _ = ParseResponse(buf[:n], nil, &resp)
			resp.Reset()
		}
	})
	if allocs > 0 {
		t.Errorf("responses: %v allocations", allocs)
	}
	var c Chunked
	allocs = testing.AllocsPerRun(100, func() {
		n := copy(buf, "5;x\r\nhello\r\n0\r\nHost: a\r\nX-A: b\r\n\r\n")
		c.Reset(false, 100)
		for _, cut := range [][2]int{{0, 4}, {4, 20}, {20, n}} {
			_, _, _, _ = c.Scan(buf[cut[0]:cut[1]])
		}
	})
	if allocs > 0 {
		t.Errorf("bodies: %v allocations", allocs)
	}
	n := copy(buf, browserGet)
	if n, _ := ParseRequest(buf[:n], nil, &req); n == 0 {
		t.Fatal("refused")
	}
	out := make([]byte, 0, 4<<10)
	allocs = testing.AllocsPerRun(100, func() {
		b := AppendStatusLine(AppendRequestLine(out, req.Method, req.Target), 404)
		AppendInt(AppendFields(AppendField(b, "Host", req.Host), req.Fields, Kinds(Host)), 1<<40)
	})
	if allocs > 0 {
		t.Errorf("writing: %v allocations", allocs)
	}
}

func TestResetForgetsTheMessageAndItsViews(t *testing.T) {
	r := mustParseRequest(t, "GET http://a/?b HTTP/1.0\r\nHost: a\r\nX: 1\r\nX: 2\r\nTE: trailers\r\nConnection: x-a\r\nContent-Length: 5\r\n\r\n")
	r.Header("x")
	fields := r.Fields
	r.Reset()
	if got := requestMeaning(r); got != requestMeaning(&Request{Message: Message{ContentLength: -1}}) {
		t.Errorf("after Reset: %s", got)
	}
	for _, f := range fields {
		if f.Name != nil || f.Value != nil {
			t.Errorf("after Reset the memory of Fields still holds %q", f.Name)
		}
	}
	s := mustParseResponse(t, smallOK)
	s.Reset()
	if got := responseMeaning(s); got != responseMeaning(&Response{Message: Message{ContentLength: -1}}) {
		t.Errorf("after Reset: %s", got)
	}
}

func TestMessageDoesNotSeeTheOneBefore(t *testing.T) {
	var r Request
	for range 2 { // the second time all that the first left is there
		for _, c := range acceptedRequests {
			if n, err := ParseRequest([]byte(c.message), nil, &r); n == 0 {
				t.Fatalf("%q: %v", c.message, err)
			}
			if got := brief(&r); got != c.want {
				t.Errorf("%q\ngot  %s\nwant %s", c.message, got, c.want)
			}
			r.Reset()
		}
	}
}

// A client that sends a byte at a time must not make the work grow with the
// square of the size of its head: a line that was parsed is not parsed again.
func TestParsedLinesAreNotParsedAgain(t *testing.T) {
	head := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 50) + "\r\n")
	var r Request
	n, err := ParseRequest(head[:len(head)-2], nil, &r)
	if n != 0 || err != nil || len(r.Fields) != 51 {
		t.Fatalf("got %d, %v, %d fields", n, err, len(r.Fields))
	}
	for i := range head[:len(head)-2] {
		head[i] = 0 // would be refused
	}
	if n, err := ParseRequest(head[:len(head)-1], nil, &r); n != 0 || err != nil || len(r.Fields) != 51 {
		t.Errorf("got %d, %v, %d fields", n, err, len(r.Fields))
	}
}

func TestMethodAndTargetOfARefusedRequestAreKeptForTheLog(t *testing.T) {
	var r Request
	_, err := ParseRequest([]byte("PUT /a/../b?c HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), nil, &r)
	if err == nil || string(r.Method) != "PUT" || string(r.Target) != "/a/../b?c" {
		t.Errorf("got %v, %q, %q", err, r.Method, r.Target)
	}
}

func TestIncompleteHeadsAreNotErrors(t *testing.T) {
	var r Request
	if n, err := ParseRequest(nil, nil, &r); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	var s Response
	if n, err := ParseResponse(nil, nil, &s); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	for i := range browserGet {
		if n, err := ParseRequest([]byte(browserGet[:i]), nil, &r); n != 0 || err != nil {
			t.Errorf("%d bytes: got %d, %v", i, n, err)
		}
		r.Reset()
	}
}
