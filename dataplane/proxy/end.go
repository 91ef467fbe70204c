package proxy

import (
	"cmp"
	"io"
	"strconv"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// end is where every request ends, once: it answers when nothing was answered,
// gives back or drops both connections and writes the one record.
func (ex *exchange) end(reason Reason) (end time.Time, keep bool) {
	if reason == ReasonClientGone && ex.c.life.Cut() {
		reason = ReasonShutdown
	}
	ex.c.WriteBy(time.Time{})
	ex.finishUpstream(reason)
	if reason != ReasonOK {
		ex.fail(reason)
	}
	end = time.Now()
	ex.record(reason, end)
	ex.release(reason, end)
	ex.depart()
	keep = !ex.closing
	// What a client has not read that reads no more, the kernel would keep for
	// minutes behind the close.
	ex.c.abort = ex.endless && reason != ReasonOK && ex.status != 0 || reason == ReasonClientStalled
	ex.c.linger = ex.lingers(reason)
	ex.reset()
	return end, keep
}

// lingers reports whether the client may still be sending when its connection is
// closed.
func (ex *exchange) lingers(reason Reason) bool {
	switch {
	case reason == ReasonShutdown && ex.status == 101, reason == ReasonEndpointDrained:
		return true // the client has been told of the end, and may have more to say
	case !ex.closing, ex.status == 0, ex.status == 101, reason == ReasonClientGone, reason == ReasonClientStalled:
		return false
	}
	return !ex.partsAtOnce()
}

// partsAtOnce reports whether the client's connection can be closed as soon as
// the answer is written: it has asked for that itself by a request without a
// body, behind which nothing may come (RFC 9112, 9.6), and not even an empty line
// has.
func (ex *exchange) partsAtOnce() bool {
	if !ex.parts && ex.closing {
		ex.parts = ex.req.Close && ex.req.ContentLength <= 0 && !ex.req.Chunked && !ex.c.Pending()
	}
	return ex.parts
}

// finishUpstream ends the upload and keeps the connection to the endpoint if it
// can be used again: both messages complete, nothing unread, nobody wants it
// closed.
func (ex *exchange) finishUpstream(reason Reason) {
	if ex.up == nil {
		return
	}
	ex.joinUpload(reason)
	if reason != ReasonOK || ex.upSpent || len(ex.up.Buffered()) > 0 {
		ex.dropUpstream()
		return
	}
	ex.keepUpstream()
}

// keepUpstream keeps the connection to the endpoint for another request.
func (ex *exchange) keepUpstream() {
	ex.up.Release()
	ex.turn.Endpoint.Keep(ex.up, ex.upMade, ex.now, time.Duration(ex.res.KeepAliveTimeout)*time.Second)
	ex.up = nil
}

// fail answers with the reason's status if nothing was answered; else, or if
// the reason has none, the connection is cut.
func (ex *exchange) fail(reason Reason) {
	row := &reasons[reason]
	ex.closing = ex.closing || row.close
	status := row.status
	if ex.failStatus != 0 {
		status = ex.failStatus
	}
	if ex.status != 0 || status == 0 {
		ex.closing = true
		return
	}
	if !ex.reqBody.Done() {
		// What is here of the body is passed over; what is not makes the
		// connection useless for another request.
		_, err := ex.reqBody.Ready()
		ex.closing = ex.closing || err != io.EOF
	}
	if len(ex.id) == 0 {
		ex.makeID()
	}
	out := ex.answer(ex.out[:0], row, status)
	if _, err := ex.c.Write(out, time.Now()); err == nil {
		ex.status = status
	} else {
		ex.closing = true
	}
	ex.setOut(out)
}

// answer writes a response of the proxy's own. Proxy-Status says in the
// standard's words, and the body in ours, why there is no other (RFC 9209).
func (ex *exchange) answer(out []byte, row *reasonRow, status int) []byte {
	out = http1.AppendStatusLine(out, status)
	out = append(out, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: "...)
	out = http1.AppendInt(out, int64(len("000 \n")+len(row.label)))
	out = append(out, "\r\n"...)
	if row.proxyStatus != "" {
		out = append(out, "Proxy-Status: ferrum; error="...)
		out = append(out, row.proxyStatus...)
		out = append(out, "; details=\""...)
		out = append(out, row.label...)
		out = append(out, "\"\r\n"...)
	}
	out = ex.appendRate(out)
	switch status {
	case 429:
		out = ex.appendRetryAfter(out)
	case 503:
		out = append(out, "Retry-After: 1\r\n"...)
	case 200, 405:
		out = append(out, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	out = http1.AppendField(out, "X-Request-ID", ex.id)
	out = append(ex.appendConnection(out), "\r\n"...)
	if ex.head() {
		return out
	}
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ')
	out = append(out, row.label...)
	return append(out, '\n')
}

// record writes the one record of the request.
func (ex *exchange) record(reason Reason, end time.Time) {
	r := &ex.rec
	*r = Record{
		Start: ex.start, Duration: end.Sub(ex.start), Connect: ex.connect, UpstreamHeader: ex.header,
		Client: ex.addr, Method: ex.req.Method, Host: ex.req.Host, Path: ex.req.Path, Query: ex.req.Query,
		RequestID: ex.id, Status: ex.status, Reason: reason, Detail: ex.detail, Attempts: ex.attempts, Stopped: ex.stopped,
		WouldLimit: ex.wouldLimit, BytesIn: ex.reqBody.Payload(), BytesOut: ex.resBody.Payload(),
	}
	if ex.rule != nil {
		r.Rule = ex.rule.id
	}
	if e := cmp.Or(ex.turn.Endpoint, ex.tried.Last()); e != nil {
		r.Endpoint = e.Addr
	}
	if len(r.Method) > 0 {
		r.Proto = "HTTP/1.1"
		if ex.req.Minor == 0 {
			r.Proto = "HTTP/1.0"
		}
	}
	for i := range ex.req.Fields {
		if f := &ex.req.Fields[i]; f.Kind == http1.UserAgent {
			r.UserAgent = f.Value
			break
		}
	}
	ex.countEnd(r)
	ex.p.sink.Log(r)
}

// countBegin counts the request as begun, once.
func (ex *exchange) countBegin() {
	if !ex.begun {
		ex.begun = true
		ex.series.Begin()
	}
}

// countEnd counts the request as ended, once, and as begun if it was not: no rule
// took it.
func (ex *exchange) countEnd(r *Record) {
	ex.countBegin()
	if !ex.ended {
		ex.ended = true
		ex.series.End(r)
	}
}

// reset forgets the request, so that a pooled exchange holds nothing of it.
func (ex *exchange) reset() {
	ex.req.Reset()
	ex.res.Reset()
	ex.releaseOut()
	if cap(ex.out) > maxKeptOut {
		ex.out = make([]byte, 0, smallOut)
	}
	ex.tried.Clear()
	ex.keep.reset()
	ex.uploadEnd.Store(0)
	ex.bodyRead.Store(false)
	ex.continued.Store(0)
	ex.streaming.Store(false)
	ex.sent.Store(0)
	ex.received.Store(0)
	ex.state = state{}
}

// panicked ends a request that made the proxy panic, so that no counts are left
// behind.
func (ex *exchange) panicked() {
	ex.countEnd(&Record{Start: ex.start, Duration: time.Since(ex.start), Status: ex.status, Reason: ReasonInternal})
	ex.release(ReasonInternal, time.Now())
	ex.depart()
	if ex.up != nil {
		_ = ex.up.Close() // it is lost whatever this says
	}
	if ex.uploading {
		_ = ex.c.Close() // likewise
		<-ex.uploaded
	}
	if ex.up != nil {
		ex.up.Free()
	}
	ex.keep.free()
	ex.releaseOut()
}
