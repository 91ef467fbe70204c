package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// While an endpoint took nothing of a request, none of the rule's times counted, and
// nobody looked whether the client was still there: all that ended it was the minute
// in which something has to be taken.
func TestTheTimesOfARuleBoundTheSendingOfARequest(t *testing.T) {
	for reason, set := range map[proxy.Reason]func(*plan.Timeouts, *plan.Limits){
		proxy.ReasonRequestTimeout:        func(t *plan.Timeouts, _ *plan.Limits) { t.Request = 3 * time.Second },
		proxy.ReasonBackendRequestTimeout: func(t *plan.Timeouts, _ *plan.Limits) { t.BackendRequest = 3 * time.Second },
		proxy.ReasonResponseHeaderTimeout: func(t *plan.Timeouts, _ *plan.Limits) { t.ResponseHeader = 3 * time.Second },
	} {
		for _, sent := range bodiesSent {
			inBubble(t, func(t *testing.T, b *bed) {
				c := b.stuffed(sent, set)
				wantFailure(t, b, c.read("POST"), 504, reason)
				// A look may have taken what went into the connection at first for
				// something that was taken later.
				if took := b.sink.last(t).Duration; took > 4*time.Second+lastLook {
					t.Errorf("%s, with %d bytes sent: after %s", reason, sent, took)
				}
				time.Sleep(5 * time.Minute)
			})
		}
	}
	for _, sent := range bodiesSent {
		inBubble(t, func(t *testing.T, b *bed) {
			c := b.stuffed(sent, func(*plan.Timeouts, *plan.Limits) {})
			time.Sleep(1500 * time.Millisecond)
			c.Reset()
			time.Sleep(5 * time.Minute)
			if r := b.sink.last(t); r.Reason != proxy.ReasonClientGone || r.Duration > 2*time.Second {
				t.Errorf("the client is gone, with %d bytes sent: %s after %s", sent, r.Reason, r.Duration)
			}
		})
	}
}

// An endpoint that is slow to take a request gets it whole all the same.
func TestARequestThatIsTakenSlowlyIsSentWhole(t *testing.T) {
	for _, sent := range bodiesSent {
		inBubble(t, func(t *testing.T, b *bed) {
			b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
				time.Sleep(2500 * time.Millisecond)
				if req, err := http.ReadRequest(r); err == nil {
					n, _ := io.Copy(io.Discard, req.Body)
					_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%d", n)
				}
			})
			b.apply(onePool(backendAddr))
			c := b.dial()
			c.send(stuffing(sent))
			if sent == 0 {
				time.Sleep(5 * time.Second)
				c.send(strings.Repeat("b", stuffedBody))
			}
			if a := c.read("POST"); a.StatusCode != 200 || a.body != fmt.Sprint(stuffedBody) {
				t.Errorf("with %d bytes sent: %d %q", sent, a.StatusCode, a.body)
			}
		})
	}
}

// stuffedBody is the size of the body of stuffing, and bodiesSent how much of it
// comes with the head.
const stuffedBody = 6000

var bodiesSent = []int{stuffedBody, 0}

// lastLook is how long an endpoint may answer all the same when time is up.
const lastLook = 10 * time.Millisecond

// stuffing is a request that does not fit into a connection once the proxy has
// added its fields.
func stuffing(sent int) string {
	long := strings.Repeat("x", 7<<10)
	head := "POST / HTTP/1.1\r\n" + shopHost + "\r\n"
	for i := range 8 {
		head += fmt.Sprintf("X-%d: %s\r\n", i, long)
	}
	tail := fmt.Sprintf("Content-Length: %d\r\n\r\n", stuffedBody)
	pad := memnet.BufferSize - len(head) - len("X-Pad: \r\n") - len(tail) - sent - 10
	return head + "X-Pad: " + strings.Repeat("p", pad) + "\r\n" + tail + strings.Repeat("b", sent)
}

// stuffed sends stuffing to an endpoint that takes nothing for five minutes.
func (b *bed) stuffed(sent int, times func(*plan.Timeouts, *plan.Limits)) *peer {
	b.backend(backendAddr, func(c net.Conn, r *bufio.Reader) {
		time.Sleep(5 * time.Minute)
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, r)
	})
	b.apply(tuned(times))
	c := b.dial()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Minute))
	c.send(stuffing(sent))
	return c
}
