package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// fault is what a link does to a message from some byte on.
type fault string

const (
	drops      fault = "drops the rest"
	delays     fault = "delays the rest"
	resets     fault = "resets the connection"
	halfCloses fault = "half-closes"
	dribbles   fault = "gives one byte at a time"
)

// transmit sends a message over a link with a fault at an offset.
func (f fault) transmit(c *memnet.Conn, message string, at int) {
	step := len(message)
	if f == dribbles {
		step, at = 1, len(message)
	}
	for sent := 0; sent < at; sent += step {
		if _, err := io.WriteString(c, message[sent:min(sent+step, at)]); err != nil {
			return
		}
		if f == dribbles {
			time.Sleep(time.Millisecond)
		}
	}
	switch f {
	case delays:
		time.Sleep(5 * time.Second)
		_, _ = io.WriteString(c, message[at:])
	case resets:
		time.Sleep(time.Second) // what was sent arrives
		c.Reset()
	case halfCloses:
		_ = c.CloseWrite()
	case drops, dribbles:
	}
}

// part is a part of an exchange.
type part string

const (
	requestHead  part = "request head"
	requestBody  part = "request body"
	responseHead part = "response head"
	responseBody part = "response body"
)

// outcome is how an exchange ends: the status that the client sees (0: none),
// whether what it got is whole, what is recorded and after how long.
type outcome struct {
	status int
	whole  bool
	reason proxy.Reason
	after  time.Duration
}

// outcomes is the matrix. Where a link drops bytes the timeout of that part
// ends the exchange, and nothing else does.
var outcomes = map[part]map[fault]outcome{
	requestHead: {
		drops:      {408, true, proxy.ReasonRequestHeaderTimeout, 10 * time.Second},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {0, false, proxy.ReasonClientGone, time.Second},
		halfCloses: {0, false, proxy.ReasonClientGone, 0},
		dribbles:   {200, true, proxy.ReasonOK, 0},
	},
	requestBody: {
		drops:      {408, true, proxy.ReasonRequestBodyTimeout, 15 * time.Second},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {0, false, proxy.ReasonClientGone, time.Second},
		halfCloses: {0, false, proxy.ReasonClientGone, 0},
		dribbles:   {200, true, proxy.ReasonOK, 0},
	},
	responseHead: {
		drops:      {504, true, proxy.ReasonResponseHeaderTimeout, 60 * time.Second},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {502, true, proxy.ReasonUpstreamReset, time.Second},
		halfCloses: {502, true, proxy.ReasonUpstreamReset, 0},
		dribbles:   {200, true, proxy.ReasonOK, 0},
	},
	responseBody: {
		drops:      {200, false, proxy.ReasonResponseBodyTimeout, 60 * time.Second},
		delays:     {200, true, proxy.ReasonOK, 5 * time.Second},
		resets:     {200, false, proxy.ReasonResponseCut, time.Second},
		halfCloses: {200, false, proxy.ReasonResponseCut, 0},
		dribbles:   {200, true, proxy.ReasonOK, 0},
	},
}

const payload = "The quick brown fox jumps over the lazy dog."

// framings are the ways in which a body can be framed.
var framings = map[string]string{
	"length": "Content-Length: 44\r\n\r\n" + payload,
	"chunks": "Transfer-Encoding: chunked\r\n\r\n14\r\n" + payload[:20] + "\r\n18\r\n" + payload[20:] + "\r\n0\r\n\r\n",
}

func TestFaultyLinksEndAsTheMatrixSays(t *testing.T) {
	for where, row := range outcomes {
		for f, want := range row {
			for framing := range framings {
				t.Run(string(where)+": a link that "+string(f)+", by "+framing, func(t *testing.T) {
					inBubble(t, func(t *testing.T, b *bed) { runCell(t, b, where, f, framing, want) })
				})
			}
		}
	}
}

// runCell sends a request with a body through a link with the fault.
func runCell(t *testing.T, b *bed, where part, f fault, framing string, want outcome) {
	request := "POST / HTTP/1.1\r\n" + shopHost + "\r\n" + framings[framing]
	response := "HTTP/1.1 200 OK\r\n" + framings[framing]
	at := func(message string, p part) (fault, int) {
		head := strings.Index(message, "\r\n\r\n") + 4
		switch {
		case p != where:
			return "", len(message)
		case p == requestHead || p == responseHead:
			return f, head / 2
		default:
			return f, (head + len(message)) / 2
		}
	}
	b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if body, err := io.ReadAll(req.Body); err != nil || string(body) != payload {
			return
		}
		on, from := at(response, responseHead)
		if where == responseBody {
			on, from = at(response, responseBody)
		}
		on.transmit(c.(*memnet.Conn), response, from)
		_, _ = io.Copy(io.Discard, r) // until the proxy closes
	})
	b.apply(onePool(backendAddr))
	c := b.dial()
	began := time.Now()
	on, from := at(request, requestHead)
	if where == requestBody {
		on, from = at(request, requestBody)
	}
	go on.transmit(c.Conn, request, from)

	got := outcome{reason: proxy.ReasonOK}
	if res, err := http.ReadResponse(c.r, nil); err == nil {
		body, err := io.ReadAll(res.Body)
		got.status, got.whole = res.StatusCode, err == nil && (res.StatusCode != 200 || string(body) == payload)
	}
	got.after = time.Since(began).Truncate(time.Second)
	_ = c.Close()
	time.Sleep(5 * time.Second) // for a linger
	if got.reason = b.sink.last(t).Reason; got != want {
		t.Errorf("got %+v (%s), want %+v (%s)", got, got.reason, want, want.reason)
	}
}
