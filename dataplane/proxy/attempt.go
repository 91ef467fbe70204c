package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// maxInterim bounds the 1xx responses before a final one.
const maxInterim = 16

// attempt sends the request to the endpoint that was picked and reads the head of
// its response.
func (ex *exchange) attempt() (Reason, failure) {
	ex.attempts++
	ex.bound()
	reused, reason, f := ex.connectTo()
	if reason != ReasonOK {
		return reason, f
	}
	return ex.exchangeHeads(reused)
}

// bound sets the time of the attempt, which begins now.
func (ex *exchange) bound() {
	ex.until, ex.late = ex.deadline, ReasonRequestTimeout
	if d := ex.rule.timeouts.BackendRequest; d > 0 {
		if t := ex.now.Add(d); ex.until.IsZero() || t.Before(ex.until) {
			ex.until, ex.late = t, ReasonBackendRequestTimeout
		}
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
	ex.setOut(append(ex.out, p...))
	return ReasonOK
}

// connectTo takes a kept connection to the endpoint or makes a new one.
func (ex *exchange) connectTo() (reused bool, reason Reason, f failure) {
	if !ex.fresh {
		if ex.up, ex.upMade = ex.turn.Endpoint.IdleConn(ex.now); ex.up != nil {
			return true, ReasonOK, f
		}
	}
	timeout := ex.rule.timeouts.Connect
	until, late := ex.sooner(ex.until, ex.late)
	if !until.IsZero() {
		if left := until.Sub(ex.now); timeout == 0 || left < timeout {
			timeout = max(left, time.Millisecond)
		}
	}
	c, err := ex.dialUp(timeout)
	began := ex.now
	ex.now = time.Now()
	ex.connect = ex.now.Sub(began)
	if err == nil {
		ex.up, ex.upMade = c, ex.now
		return false, ReasonOK, f
	}
	ex.detail = err.Error()
	f = failure{retry.OutcomeConnect, retry.SentNone}
	switch {
	case err == errTooManyConnections:
		return false, ex.overflowed(), failure{}
	case isTimeout(err):
		if !until.IsZero() && !ex.now.Before(until) {
			return false, late, timedOut(late, retry.SentNone)
		}
		return false, ReasonConnectTimeout, f
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, ReasonConnectRefused, f
	case upstream.IsShortage(err):
		return false, ReasonLocalShortage, failure{}
	}
	return false, ReasonConnectFailed, f
}

// sooner is the earlier one of a time, zero being none, and the end of the
// policy's total timeout, which counts until the head of a response is there.
func (ex *exchange) sooner(until time.Time, late Reason) (time.Time, Reason) {
	if total := ex.totalEnd(); !total.IsZero() && (until.IsZero() || total.Before(until)) {
		return total, ReasonRetryTimeout
	}
	return until, late
}

// totalEnd is when the policy's total timeout passes; zero: never. While the
// client sends the body to the first endpoint that takes it nothing can be tried
// again sooner for cutting that: the timeout counts from the end of the body, and
// not at all for one that was not kept.
func (ex *exchange) totalEnd() time.Time {
	if ex.total.IsZero() || ex.spent > 0 || !ex.uploading {
		return ex.total
	}
	end := ex.uploadEnd.Load()
	if end == 0 || ex.keep.lost.Load() {
		return time.Time{}
	}
	ex.total = ex.start.Add(time.Duration(end) + ex.rule.retry.TotalTimeout)
	return ex.total
}

// timedOut is the failure of an attempt that took too long: only its own timeouts
// leave time for another one.
func timedOut(late Reason, sent retry.Sent) failure {
	if late == ReasonBackendRequestTimeout || late == ReasonResponseHeaderTimeout {
		return failure{retry.OutcomeTimeout, sent}
	}
	return failure{}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// exchangeHeads sends the request and reads the head of the response.
func (ex *exchange) exchangeHeads(reused bool) (Reason, failure) {
	var sent int
	var err error
	whole := ex.reqBody.Done() && !ex.keep.holds()
	ex.sentAt = ex.now
	tick := ex.headTick()
	ex.up.WriteBy(tick)
	if whole {
		sent, err = ex.up.RoundTrip(ex.out, reused, ex.now, tick)
	} else {
		sent, err = ex.up.Send(ex.out, reused, ex.now)
	}
	late := ReasonResponseHeaderTimeout
	waited := err == http1.ErrLate
	if waited {
		sent, late, err = ex.sendRest(sent)
	}
	ex.up.WriteBy(time.Time{})
	switch {
	case late == ReasonClientGone:
		return late, failure{}
	case err == http1.ErrLate, err == http1.ErrTimeout && sent < len(ex.out):
		if err = ex.stalled(); err == http1.ErrTimeout {
			ex.detail = "the endpoint does not take the request"
			if sent == 0 {
				return late, timedOut(late, retry.SentNone)
			}
			return late, timedOut(late, retry.SentSome)
		}
	case err == nil && !whole:
		ex.startUpload()
		err = ex.up.Fill(ex.headTick())
	case err == nil && waited:
		err = ex.up.Fill(ex.headTick())
	}
	return ex.readHeads(err, sent, reused, 0)
}

// sendRest sends what an endpoint did not take at once of the request, of which so
// much is sent. When it gives up, for the reason, the error is ErrLate. The time
// for a response begins when the endpoint has taken something last.
func (ex *exchange) sendRest(sent int) (int, Reason, error) {
	for {
		ex.sentAt = ex.up.TookAt()
		reason := ex.looked(ex.sooner(ex.headerDeadline(), ReasonResponseHeaderTimeout))
		if reason != ReasonOK {
			return sent, reason, http1.ErrLate
		}
		ex.up.WriteBy(ex.headTick())
		n, err := ex.up.WriteRest(ex.out[sent:], ex.now)
		if sent += n; err != http1.ErrLate {
			ex.now = time.Now()
			return sent, ReasonResponseHeaderTimeout, err
		}
	}
}

// readHeads reads on until the head of the response, after so many 1xx ones. err
// is that of the last read, sent what was written of the request. In a lane the
// first head ends it, whatever it is: see race.
func (ex *exchange) readHeads(err error, sent int, reused bool, interims int) (Reason, failure) {
	for {
		if err != nil && err != http1.ErrTimeout {
			return ex.sendFailed(err, sent, reused && interims == 0)
		}
		if err == http1.ErrTimeout {
			if reason := ex.looked(ex.sooner(ex.headerDeadline(), ReasonResponseHeaderTimeout)); reason != ReasonOK {
				return reason, timedOut(reason, retry.SentSome)
			}
		}
		err = ex.up.ReadResponse(&http1.DefaultLimits, &ex.res, ex.headTick())
		if err != nil {
			continue
		}
		if ex.res.Status >= 200 || ex.res.Status == 101 && ex.res.Upgrade != nil && ex.req.Upgrade != nil {
			ex.now = time.Now()
			ex.header = ex.now.Sub(ex.sentAt)
			// Without the 100 that it was asked for it may take the body for a request.
			ex.upSpent = ex.upSpent || ex.req.Expect100 && ex.continued.Load() == 0
			// Nor does HTTP/1.0 know where a chunked one ends (RFC 9112, 6.1).
			ex.upSpent = ex.upSpent || ex.req.Chunked && ex.res.Minor == 0
			ex.answered()
			return ReasonOK, failure{}
		}
		if interims++; interims > maxInterim || ex.res.Status == 101 {
			ex.detail = "unexpected 1xx response"
			return ReasonInvalidResponse, failure{}
		}
		ex.upSpent = ex.upSpent || ex.res.Close // what follows may be a body that it cannot have
		if ex.inLane && ex.forwardsInterim() {
			return ReasonOK, failure{}
		}
		if reason := ex.interim(); reason != ReasonOK {
			return reason, failure{}
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

// headTick is the next tick of the wait for the head of the response.
func (ex *exchange) headTick() time.Time {
	until, _ := ex.sooner(ex.headerDeadline(), ReasonOK)
	return ex.tick(until)
}

// headerDeadline is when the head of the response has to be there; zero while
// the body is still on its way. Where the endpoint has stopped to take that, an
// answer is there or comes at once, or never.
func (ex *exchange) headerDeadline() time.Time {
	from, most := ex.sentAt, ex.rule.timeouts.ResponseHeader
	if ex.uploading {
		end := ex.uploadEnd.Load()
		if end == 0 {
			return time.Time{}
		}
		from = ex.start.Add(time.Duration(end))
		if !ex.uploadSound && (most == 0 || most > lastWrite) {
			most = lastWrite
		}
	}
	if most == 0 {
		return time.Time{}
	}
	return from.Add(most)
}

// sendFailed finds the reason why there is no response. reused says that the
// connection was a kept one, on which nothing has come.
func (ex *exchange) sendFailed(err error, sent int, reused bool) (Reason, failure) {
	var bad *http1.Error
	f := failure{retry.OutcomeReset, retry.SentSome}
	switch {
	case err == http1.ErrInterrupted:
		<-ex.uploaded
		ex.uploading = false
		return ex.uploadErr, failure{}
	case errors.As(err, &bad):
		ex.detail = bad.Detail
		return ReasonInvalidResponse, failure{}
	case reused && len(ex.up.Buffered()) == 0:
		f.outcome = retry.OutcomeStale
	}
	if sent == 0 {
		f.sent = retry.SentNone
	}
	ex.detail = "before the response's head: " + err.Error()
	return ReasonUpstreamReset, f
}

// interim forwards a 1xx response, 100 only to a client that waits for it, none
// to HTTP/1.0 (RFC 9110, 15.2).
func (ex *exchange) interim() Reason {
	defer func() {
		ex.res.Reset()
		ex.up.Release()
	}()
	if !ex.forwardsInterim() {
		return ReasonOK
	}
	out := http1.AppendStatusLine(ex.out[:0], ex.res.Status)
	out = http1.AppendFields(out, ex.res.Fields, framing)
	ex.setOut(append(out, "\r\n"...))
	ex.now = time.Now()
	ex.committed = true
	if _, err := ex.c.Write(ex.out, ex.now); err != nil {
		return ex.clientWriteReason(err)
	}
	if ex.res.Status == 100 {
		ex.continued.Store(ex.moment(ex.now))
	}
	return ReasonOK
}

// forwardsInterim reports whether the client gets the 1xx response.
func (ex *exchange) forwardsInterim() bool {
	return ex.req.Minor != 0 && (ex.res.Status != 100 || ex.req.Expect100)
}

// dropUpstream ends the connection to the endpoint.
func (ex *exchange) dropUpstream() {
	_ = ex.up.Close() // it is of no use any more, however it closes
	ex.up.Free()
	ex.up = nil
}

// head reports whether the request's method is HEAD.
func (ex *exchange) head() bool { return bytes.Equal(ex.req.Method, []byte("HEAD")) }
