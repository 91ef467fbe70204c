package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// maxInterim bounds the 1xx responses before a final one.
const maxInterim = 16

// attempt picks an endpoint, sends the request to it and reads the head of its
// response.
func (ex *exchange) attempt() Reason {
	if reason := ex.pick(); reason != ReasonOK {
		return reason
	}
	ex.attempts++
	if reason := ex.joinBody(); reason != ReasonOK {
		return reason
	}
	for {
		reused, reason := ex.connectTo()
		if reason != ReasonOK {
			return reason
		}
		reason, unsent := ex.exchangeHeads(reused)
		if !unsent {
			return reason
		}
		// A kept connection that the endpoint has closed: nothing of the
		// request was processed, so the next one gets it.
		ex.dropUpstream()
		ex.now = time.Now()
	}
}

// joinBody puts what is here of the body behind the head, to be sent by one
// write. A client that waits for 100 (Continue) has sent nothing yet.
func (ex *exchange) joinBody() Reason {
	if ex.req.Expect100 {
		return ReasonOK
	}
	p, err := ex.reqBody.Ready()
	if err != nil && err != io.EOF {
		return ex.bodyReason(err)
	}
	ex.out = append(ex.out, p...)
	return ReasonOK
}

// connectTo takes a kept connection to the endpoint or makes a new one.
func (ex *exchange) connectTo() (reused bool, reason Reason) {
	if !ex.fresh {
		if ex.up, ex.upMade = ex.turn.Endpoint.IdleConn(ex.now); ex.up != nil {
			return true, ReasonOK
		}
	}
	timeout := ex.rule.timeouts.Connect
	if !ex.deadline.IsZero() {
		if left := ex.deadline.Sub(ex.now); timeout == 0 || left < timeout {
			timeout = max(left, time.Millisecond)
		}
	}
	c, err := ex.dialUp(timeout)
	began := ex.now
	ex.now = time.Now()
	ex.connect = ex.now.Sub(began)
	if err == nil {
		ex.up, ex.upMade = c, ex.now
		return false, ReasonOK
	}
	ex.detail = err.Error()
	switch {
	case err == errTooManyConnections:
		return false, ex.overflowed()
	case isTimeout(err):
		if !ex.deadline.IsZero() && !ex.now.Before(ex.deadline) {
			return false, ReasonRequestTimeout
		}
		return false, ReasonConnectTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, ReasonConnectRefused
	}
	ex.blameless = exhausted(err)
	return false, ReasonConnectFailed
}

// exhaustion are the errors of a connect that has not come as far as the network:
// this process or its host has no descriptor, port or memory left.
var exhaustion = [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM}

// exhausted reports whether a failure to connect says nothing of the endpoint.
func exhausted(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && slices.Contains(exhaustion[:], errno)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// exchangeHeads sends the request and reads the head of the response. unsent
// says that the request has certainly not been processed because a kept
// connection was dead, or that it may be sent again all the same.
func (ex *exchange) exchangeHeads(reused bool) (reason Reason, unsent bool) {
	var sent int
	var err error
	if ex.reqBody.Done() {
		ex.sentAt = ex.now
		sent, err = ex.up.RoundTrip(ex.out, reused, ex.now, ex.tick(ex.headerDeadline()))
	} else {
		if sent, err = ex.up.Send(ex.out, reused, ex.now); err == nil {
			ex.startUpload()
			err = ex.up.Fill(ex.tick(ex.headerDeadline()))
		}
	}
	if err == http1.ErrTimeout && sent < len(ex.out) {
		if err = ex.stalled(); err == http1.ErrTimeout {
			ex.detail = "the endpoint does not take the request"
			return ReasonResponseHeaderTimeout, false
		}
	}
	interims := 0
	for {
		if err != nil && err != http1.ErrTimeout {
			return ex.sendFailed(err, sent, reused && interims == 0)
		}
		if err == http1.ErrTimeout {
			if reason := ex.looked(ex.headerDeadline(), ReasonResponseHeaderTimeout); reason != ReasonOK {
				return reason, false
			}
		}
		err = ex.up.ReadResponse(&http1.DefaultLimits, &ex.res, ex.tick(ex.headerDeadline()))
		if err != nil {
			continue
		}
		if ex.res.Status >= 200 || ex.res.Status == 101 && ex.res.Upgrade != nil && ex.req.Upgrade != nil {
			ex.now = time.Now()
			ex.header = ex.now.Sub(ex.sentAt)
			ex.answered()
			return ReasonOK, false
		}
		if interims++; interims > maxInterim || ex.res.Status == 101 {
			ex.detail = "unexpected 1xx response"
			return ReasonInvalidResponse, false
		}
		if reason := ex.interim(); reason != ReasonOK {
			return reason, false
		}
	}
}

// lastLook is how long an endpoint that took nothing of the request for too long
// may take to answer all the same.
const lastLook = 10 * time.Millisecond

// stalled looks whether an endpoint that takes no more of the request has
// answered what it has. Whatever it says, what is missing will not be sent.
func (ex *exchange) stalled() error {
	ex.now = time.Now()
	ex.upSpent = true
	return ex.up.Fill(ex.now.Add(lastLook))
}

// headerDeadline is when the head of the response has to be there; zero while
// the body is still on its way.
func (ex *exchange) headerDeadline() time.Time {
	if ex.rule.timeouts.ResponseHeader == 0 {
		return time.Time{}
	}
	from := ex.sentAt
	if ex.uploading {
		end := ex.uploadEnd.Load()
		if end == 0 {
			return time.Time{}
		}
		from = ex.start.Add(time.Duration(end))
	}
	return from.Add(ex.rule.timeouts.ResponseHeader)
}

// sendFailed finds the reason why there is no response. On a connection that
// was kept, a request that was not written at all is unsent; so is one of an
// idempotent method without a body when the endpoint closed before it answered
// anything (RFC 9110, 9.2.2; RFC 9112, 9.3.1).
func (ex *exchange) sendFailed(err error, sent int, reused bool) (reason Reason, unsent bool) {
	var bad *http1.Error
	switch {
	case err == http1.ErrStale:
		return ReasonUpstreamReset, true
	case err == http1.ErrInterrupted:
		<-ex.uploaded
		ex.uploading = false
		return ex.uploadErr, false
	case errors.As(err, &bad):
		ex.detail = bad.Detail
		return ReasonInvalidResponse, false
	case reused && !ex.uploading && len(ex.up.Buffered()) == 0:
		if sent == 0 {
			return ReasonUpstreamReset, true
		}
		if ex.reqBody.Payload() == 0 && idempotent(ex.req.Method) {
			ex.fresh = true // once more, and not on another kept one
			ex.attempts++
			return ReasonUpstreamReset, true
		}
	}
	ex.detail = "before the response's head: " + err.Error()
	return ReasonUpstreamReset, false
}

// idempotent reports whether a method is (RFC 9110, 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// interim forwards a 1xx response, 100 only to a client that waits for it, none
// to HTTP/1.0 (RFC 9110, 15.2).
func (ex *exchange) interim() Reason {
	defer func() {
		ex.res.Reset()
		ex.up.Release()
	}()
	if ex.req.Minor == 0 || ex.res.Status == 100 && !ex.req.Expect100 {
		return ReasonOK
	}
	out := http1.AppendStatusLine(ex.out[:0], ex.res.Status)
	out = http1.AppendFields(out, ex.res.Fields, framing)
	out = append(out, "\r\n"...)
	ex.now = time.Now()
	if _, err := ex.c.Write(out, ex.now); err != nil {
		return clientWriteReason(err)
	}
	if ex.res.Status == 100 {
		ex.continued.Store(ex.moment(ex.now))
	}
	return ReasonOK
}

// dropUpstream ends the connection to the endpoint.
func (ex *exchange) dropUpstream() {
	_ = ex.up.Close() // it is of no use any more, however it closes
	ex.up.Free()
	ex.up = nil
}

// head reports whether the request's method is HEAD.
func (ex *exchange) head() bool { return bytes.Equal(ex.req.Method, []byte("HEAD")) }
