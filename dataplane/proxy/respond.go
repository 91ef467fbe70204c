package proxy

import (
	"io"
	"strconv"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// framing are the fields of a response that the proxy writes itself.
var framing = http1.Kinds(http1.Connection, http1.ContentLength, http1.TransferEncoding, http1.XRequestID)

// respond writes the head of the response to the client and streams the body.
func (ex *exchange) respond() Reason {
	if ex.res.Status == 101 {
		return ex.tunnel()
	}
	length, chunked, untilClose := ex.res.BodyFraming(ex.req.Method)
	oldClient := ex.req.Minor == 0
	ex.upSpent = ex.upSpent || ex.res.Close || untilClose
	// An early response: the rest of the body may never be read.
	if ex.uploading {
		ex.keep.needless.Store(true)
		ex.closing = ex.closing || !ex.bodyRead.Load()
	} else {
		ex.keep.free()
		ex.closing = ex.closing || !ex.reqBody.Done()
	}
	// Where the end of the body is not in its framing the client gets chunks;
	// HTTP/1.0 does not know them and gets the end of the connection.
	encode := untilClose && !oldClient
	endless := (chunked || untilClose) && oldClient
	ex.closing = ex.closing || endless
	if untilClose {
		length = http1.UntilClose
	}
	limit := ex.rule.limits.MaxResponseBodyBytes
	if limit > 0 && length > limit {
		return ReasonResponseBodyTooLarge
	}
	ex.resBody.Reset(ex.up, length, chunked, oldClient, limit)
	if !ex.req.AcceptTrailers {
		ex.resBody.DropTrailers() // RFC 9110, 6.5.1
	}
	ex.responseHead((chunked || untilClose) && !oldClient)

	p, err := ex.resBody.Ready()
	if err != nil && err != io.EOF {
		return ex.cut(err)
	}
	ex.setOut(appendPiece(ex.out, p, encode, ex.resBody.Done()))
	ex.status, ex.endless = ex.res.Status, endless
	ex.c.WriteBy(ex.until)
	if ex.resBody.Done() && ex.partsAtOnce() {
		_, err = ex.c.WriteFinal(ex.out, ex.now)
	} else {
		_, err = ex.c.Write(ex.out, ex.now)
	}
	if err != nil {
		return ex.clientWriteReason(err)
	}
	return ex.stream(encode)
}

// responseHead writes the head for the client into ex.out.
func (ex *exchange) responseHead(chunked bool) {
	res := &ex.res
	out := http1.AppendStatusLine(ex.out[:0], res.Status)
	out = http1.AppendFields(out, res.Fields, framing)
	out = http1.AppendField(out, "X-Request-ID", ex.id)
	out = ex.appendSession(out)
	out = ex.appendRate(out)
	switch {
	case chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case res.ContentLength >= 0 && res.Status != 204 && !res.Chunked:
		out = append(out, "Content-Length: "...)
		out = http1.AppendInt(out, res.ContentLength)
		out = append(out, "\r\n"...)
	}
	ex.setOut(append(ex.appendConnection(out), "\r\n"...))
}

// appendConnection says what becomes of the client's connection (RFC 9112, 9.3).
func (ex *exchange) appendConnection(out []byte) []byte {
	// The drain may have begun since the request did.
	ex.closing = ex.closing || ex.c.life.Draining()
	switch {
	case ex.closing:
		return append(out, "Connection: close\r\n"...)
	case ex.req.Minor == 0:
		return append(out, "Connection: keep-alive\r\n"...)
	}
	return out
}

// appendPiece appends a piece of a body, as a chunk if the framing is ours.
func appendPiece(out, p []byte, encode, last bool) []byte {
	if !encode {
		return append(out, p...)
	}
	if len(p) > 0 {
		out = strconv.AppendInt(out, int64(len(p)), 16)
		out = append(out, "\r\n"...)
		out = append(out, p...)
		out = append(out, "\r\n"...)
	}
	if last {
		out = append(out, "0\r\n\r\n"...)
	}
	return out
}

// stream sends the rest of the body as it arrives.
func (ex *exchange) stream(encode bool) Reason {
	b := &ex.resBody
	if b.Done() {
		return ReasonOK
	}
	ex.noteStream(ex.res.Fields)
	ex.now = time.Now() // what was written may have had to wait
	for moved := ex.now; !b.Done(); {
		until, _ := ex.idleUntil(moved, ex.rule.timeouts.ResponseBodyIdle, ReasonResponseBodyTimeout)
		var n int64
		var srcErr, dstErr error
		if !encode && b.CanSplice(&ex.c.Conn) {
			n, srcErr, dstErr = b.Splice(&ex.c.Conn, ex.tick(until))
			ex.now = time.Now()
		} else {
			n, srcErr, dstErr = ex.streamPiece(encode, until)
		}
		if n > 0 {
			moved = ex.now
			ex.received.Store(ex.moment(moved))
		}
		switch {
		case dstErr != nil:
			return ex.clientWriteReason(dstErr)
		case srcErr == http1.ErrTimeout:
			// The deadline anew: something may have passed the other way.
			if reason := ex.looked(ex.idleUntil(moved, ex.rule.timeouts.ResponseBodyIdle, ReasonResponseBodyTimeout)); reason != ReasonOK {
				return reason
			}
		case srcErr == io.EOF && b.Done():
		case srcErr != nil:
			return ex.cut(srcErr)
		}
		if !ex.until.IsZero() && !ex.now.Before(ex.until) && !b.Done() {
			return ex.late
		}
	}
	return ReasonOK
}

// streamPiece sends the next piece through a buffer.
func (ex *exchange) streamPiece(encode bool, idle time.Time) (n int64, srcErr, dstErr error) {
	p, srcErr := ex.resBody.Next(ex.tick(idle))
	n = int64(len(p))
	if encode && (n > 0 || srcErr == io.EOF) {
		ex.setOut(appendPiece(ex.out[:0], p, true, srcErr == io.EOF))
		p = ex.out
	}
	if len(p) > 0 {
		ex.now = time.Now() // the endpoint may have paused
		_, dstErr = ex.c.Write(p, ex.now)
		ex.now = time.Now()
	}
	return n, srcErr, dstErr
}

// cut is the reason for which reading the response's body failed.
func (ex *exchange) cut(err error) Reason {
	switch err {
	case http1.ErrBodyTooLarge:
		return ReasonResponseBodyTooLarge
	case http1.ErrInterrupted:
		<-ex.uploaded
		ex.uploading = false
		ex.closing, ex.upSpent = true, true
		return ex.uploadErr
	}
	ex.detail = err.Error()
	return ReasonResponseCut
}

// clientWriteReason is the reason for which writing to the client failed.
func (ex *exchange) clientWriteReason(err error) Reason {
	switch err {
	case http1.ErrTimeout:
		return ReasonClientStalled
	case http1.ErrLate:
		return ex.late
	}
	return ReasonClientGone
}
