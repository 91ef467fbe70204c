package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// echo answers with the request as the backend has read it.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte("cut: " + err.Error())
	}
	w.Header().Set("X-Backend", "echo")
	fmt.Fprintf(w, "%s %s host=%s te=%v len=%d body=%s\n", r.Method, r.RequestURI, r.Host, r.TransferEncoding, r.ContentLength, body)
	for _, k := range []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "X-Real-Ip", "X-Request-Id",
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Upgrade", "X-Secret", "X-Kept", "Expect", "Max-Forwards",
	} {
		if v, ok := r.Header[k]; ok {
			fmt.Fprintf(w, "%s=%s\n", k, strings.Join(v, "|"))
		}
	}
}

func TestARequestReachesTheBackendAndItsAnswerTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		for i := range 3 {
			a := c.get(fmt.Sprintf("GET /cart?id=%d HTTP/1.1", i), shopHost, "X-Kept: yes")
			want := fmt.Sprintf("GET /cart?id=%d host=shop.example.com", i)
			if a.StatusCode != 200 || a.cut != nil || !strings.HasPrefix(a.body, want) || !strings.Contains(a.body, "X-Kept=yes") {
				t.Fatalf("request %d: %d %q %v", i, a.StatusCode, a.body, a.cut)
			}
			if a.Header.Get("X-Backend") != "echo" {
				t.Errorf("the backend's header is missing: %v", a.Header)
			}
		}
		r := b.sink.last(t)
		if r.Reason != proxy.ReasonOK || r.Status != 200 || r.Rule.Rule != "all" || r.Endpoint.String() != backendAddr || r.Attempts != 1 {
			t.Errorf("record: %+v", r)
		}
	})
}

func TestTheClientCannotSpeakForTheProxy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		a := b.dial().get("GET / HTTP/1.1", shopHost,
			"X-Forwarded-For: 6.6.6.6", "x-forwarded-proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=6.6.6.6",
			"X-Real-IP: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "Connection: close, X-Secret, x-forwarded-for", "X-Secret: 1", "Keep-Alive: timeout=5",
			"Proxy-Connection: keep-alive", "TE: trailers, deflate", "Upgrade: h2c")
		want := []string{
			"X-Forwarded-For=192.0.2.1", "X-Real-Ip=192.0.2.1", "X-Forwarded-Proto=http", "X-Forwarded-Host=shop.example.com",
			"Forwarded=for=192.0.2.1;proto=http;host=shop.example.com", "Te=trailers",
		}
		for _, w := range want {
			if !strings.Contains(a.body, w+"\n") {
				t.Errorf("%s is missing in\n%s", w, a.body)
			}
		}
		for _, bad := range []string{"6.6.6.6", "evil", "X-Secret", "Keep-Alive", "Proxy-Connection", "Upgrade", "X-Forwarded-Port"} {
			if strings.Contains(a.body, bad) {
				t.Errorf("%s reached the backend:\n%s", bad, a.body)
			}
		}
	})
}

func TestARequestIDIsKeptIfSaneElseMadeAndEchoed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		kept := c.get("GET / HTTP/1.1", shopHost, "X-Request-ID: abc-123")
		if kept.Header.Get("X-Request-Id") != "abc-123" || !strings.Contains(kept.body, "X-Request-Id=abc-123\n") {
			t.Errorf("a sane id is not kept: %v %s", kept.Header, kept.body)
		}
		if r := b.sink.last(t); string(r.RequestID) != "abc-123" {
			t.Errorf("the record has id %q", r.RequestID)
		}
		for _, id := range []string{"", "a b", "<script>", strings.Repeat("x", 200)} {
			made := c.get("GET / HTTP/1.1", shopHost, "X-Request-ID: "+id)
			got := made.Header.Get("X-Request-Id")
			if len(got) != 32 || !strings.Contains(made.body, "X-Request-Id="+got+"\n") {
				t.Errorf("for id %q the answer has %q and the backend saw\n%s", id, got, made.body)
			}
		}
	})
}

func TestContentLengthAndChunkedBodiesStreamBothWays(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000) // 320,000 bytes
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			w.Header().Set("Got-Length", fmt.Sprint(r.ContentLength))
			if r.URL.Query().Get("cl") != "" {
				w.Header().Set("Content-Length", r.URL.Query().Get("cl"))
			}
			_, _ = io.Copy(w, r.Body)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		for _, body := range []string{"", "x", big[:3000], big[:70_000], big} {
			go c.stream(fmt.Sprintf("POST /?cl=%d HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s", len(body), shopHost, len(body), body))
			if a := c.read("POST"); a.body != body || a.Header.Get("Got-Length") != fmt.Sprint(len(body)) {
				t.Fatalf("content-length %d: got %d bytes, backend saw %s, %v", len(body), len(a.body), a.Header.Get("Got-Length"), a.cut)
			} else if a.Close {
				c = b.dial() // the answer began before the request had ended
			}
			go c.stream(chunked(body)...)
			if a := c.read("POST"); a.body != body || a.Header.Get("Got-Length") != "-1" {
				t.Fatalf("chunked %d: got %d bytes, backend saw %s, %v", len(body), len(a.body), a.Header.Get("Got-Length"), a.cut)
			} else if a.Close {
				c = b.dial()
			}
		}
		if r := b.sink.last(t); r.BytesIn != int64(len(big)) || r.BytesOut != int64(len(big)) {
			t.Errorf("recorded %d in, %d out", r.BytesIn, r.BytesOut)
		}
	})
}

// chunked is a request with the body in chunks, each with an extension, as the
// pieces to be written.
func chunked(body string) []string {
	pieces := []string{"POST / HTTP/1.1\r\n" + shopHost + "\r\nTransfer-Encoding: chunked\r\n\r\n"}
	for rest := body; rest != ""; {
		n := min(7001, len(rest))
		pieces = append(pieces, fmt.Sprintf("%x;ext=1\r\n%s\r\n", n, rest[:n]))
		rest = rest[n:]
	}
	return append(pieces, "0\r\n\r\n")
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		var all strings.Builder
		for i := range 20 {
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\n%s\r\nContent-Length: 3\r\n\r\nabc", i, shopHost)
		}
		go c.stream(all.String())
		for i := range 20 {
			if a := c.read("POST"); !strings.HasPrefix(a.body, fmt.Sprintf("POST /%d host=shop.example.com te=[] len=3 body=abc", i)) {
				t.Fatalf("answer %d: %q", i, a.body)
			}
		}
	})
}

// scripted answers each request head with the same bytes.
func scripted(raw string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for req := range requests(r) {
			_, _ = io.Copy(io.Discard, req.Body)
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
			if strings.Contains(raw, "close-now") {
				return
			}
		}
	}
}

func TestResponsesWithoutABodyHaveNone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		for i, tc := range []struct{ method, response string }{
			{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"},
			{"GET", "HTTP/1.1 204 No Content\r\n\r\n"},
			{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"},
		} {
			addr := fmt.Sprintf("10.0.1.%d:80", i+1)
			b.backend(addr, scripted(tc.response))
			b.apply(onePool(addr))
			c := b.dial()
			for range 2 {
				a := c.get(tc.method+" / HTTP/1.1", shopHost)
				if a.body != "" || a.cut != nil && tc.method != "HEAD" {
					t.Errorf("%s: body %q, %v", tc.response[9:12], a.body, a.cut)
				}
				if strings.Contains(tc.response, "1000") && a.Header.Get("Content-Length") != "1000" {
					t.Errorf("%s %s: Content-Length is %q", tc.method, tc.response[9:12], a.Header.Get("Content-Length"))
				}
			}
		}
	})
}

func TestABodyThatEndsWithTheConnectionIsChunkedForHTTP11AndClosedForHTTP10(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 200 OK\r\nX-Note: close-now\r\n\r\nall of it"))
		b.apply(onePool(backendAddr))
		c := b.dial()
		for range 2 {
			a := c.get("GET / HTTP/1.1", shopHost)
			if a.body != "all of it" || a.cut != nil || len(a.TransferEncoding) != 1 {
				t.Fatalf("HTTP/1.1: %q %v %v", a.body, a.TransferEncoding, a.cut)
			}
		}
		old := b.dial()
		a := old.get("GET / HTTP/1.0", shopHost, "Connection: keep-alive")
		if a.body != "all of it" || len(a.TransferEncoding) != 0 || !old.closed() {
			t.Errorf("HTTP/1.0: %q %v", a.body, a.TransferEncoding)
		}
	})
}

func TestAChunkedResponseIsDecodedForHTTP10(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"))
		b.apply(onePool(backendAddr))
		c := b.dial()
		if a := c.get("GET / HTTP/1.0", shopHost); a.body != "abcdef" || !c.closed() {
			t.Errorf("got %q", a.body)
		}
	})
}

func TestAnHTTP10ClientMayKeepItsConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		for range 3 {
			if a := c.get("GET / HTTP/1.0", shopHost, "Connection: keep-alive"); a.StatusCode != 200 || a.Header.Get("Connection") != "keep-alive" {
				t.Fatalf("%d %v", a.StatusCode, a.Header)
			}
		}
		if a := c.get("GET / HTTP/1.0", shopHost); a.StatusCode != 200 || !c.closed() {
			t.Error("without keep-alive the connection stays open")
		}
	})
}

func TestExpectContinueIsTheBackendsToAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "100-continue" {
				t.Error("Expect was not forwarded")
			}
			if req.URL.Path == "/refused" {
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("POST / HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		line, _ := c.r.ReadString('\n')
		empty, _ := c.r.ReadString('\n')
		if line != "HTTP/1.1 100 Continue\r\n" || empty != "\r\n" {
			t.Fatalf("got %q %q", line, empty)
		}
		c.send("hello")
		if a := c.read("POST"); a.body != "hello" {
			t.Fatalf("got %q", a.body)
		}
		refused := b.dial()
		refused.send("POST /refused HTTP/1.1\r\n" + shopHost + "\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if a := refused.read("POST"); a.StatusCode != 413 || a.body != "big" || !refused.closed() {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
	})
}

func TestEarlyHintsReachTheClientBeforeTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.backend(backendAddr, scripted("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		b.apply(onePool(backendAddr))
		c := b.dial()
		if a := c.get("GET / HTTP/1.1", shopHost); a.StatusCode != 103 || a.Header.Get("Link") == "" {
			t.Fatalf("got %d %v", a.StatusCode, a.Header)
		}
		if a := c.read("GET"); a.StatusCode != 200 || a.body != "ok" {
			t.Fatalf("got %d %q", a.StatusCode, a.body)
		}
		if a := b.dial().get("GET / HTTP/1.0", shopHost); a.StatusCode != 200 {
			t.Errorf("HTTP/1.0 got %d", a.StatusCode)
		}
	})
}

func TestARequestKeepsItsTableWhilePlansChange(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		release := make(chan struct{})
		b.httpBackend(backendAddr, func(w http.ResponseWriter, r *http.Request) {
			<-release
			_, _ = io.WriteString(w, "old")
		})
		b.httpBackend("10.0.0.2:8080", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "new") })
		b.apply(onePool(backendAddr))
		c := b.dial()
		c.send("GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n")
		synctest.Wait()
		b.apply(onePool("10.0.0.2:8080"))
		if a := b.dial().get("GET / HTTP/1.1", shopHost); a.body != "new" {
			t.Errorf("after the swap: %q", a.body)
		}
		close(release)
		if a := c.read("GET"); a.body != "old" {
			t.Errorf("in flight: %q", a.body)
		}
		if a := c.get("GET / HTTP/1.1", shopHost); a.body != "new" {
			t.Errorf("next on the same connection: %q", a.body)
		}
	})
}

// RFC 9110 section 7.6.2.
func TestOptionsGoesAsFarAsMaxForwardsSays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echo)
		b.apply(onePool(backendAddr))
		c := b.dial()
		for _, x := range []struct{ method, says, want string }{
			{"OPTIONS", "2", "Max-Forwards=1\n"},
			{"OPTIONS", "010", "Max-Forwards=9\n"},
			{"GET", "0", "Max-Forwards=0\n"},
			{"OPTIONS", "-1", "Max-Forwards=-1\n"},
			{"OPTIONS", "99999999999", "Max-Forwards=99999999999\n"},
			{"OPTIONS", "3\r\nMax-Forwards: 0", "Max-Forwards=3|0\n"},
		} {
			a := c.get(x.method+" / HTTP/1.1", shopHost, "Max-Forwards: "+x.says)
			if a.StatusCode != 200 || !strings.Contains(a.body, x.want) {
				t.Errorf("%s, %q: %d %q, want %q", x.method, x.says, a.StatusCode, a.body, x.want)
			}
		}
		a := c.get("OPTIONS / HTTP/1.1", shopHost, "Max-Forwards: 0")
		if a.StatusCode != 200 || a.Header.Get("Allow") == "" || a.Header.Get("X-Backend") != "" {
			t.Errorf("with none left: %d %v %q", a.StatusCode, a.Header, a.body)
		}
		synctest.Wait()
		if r := b.sink.last(t); r.Reason != proxy.ReasonForwardsSpent || r.Attempts != 0 {
			t.Errorf("record: %+v", r)
		}
	})
}
