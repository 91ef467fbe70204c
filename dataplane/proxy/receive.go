package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// whole looks at what is there of the request and reports whether it can be
// served without reading more from the client.
func (ex *exchange) whole() bool {
	done, err := ex.c.BufferedRequest(&ex.c.settings.heads, &ex.req)
	ex.parsed, ex.parseErr = done || err != nil, err
	if !done {
		return err != nil
	}
	return !ex.req.Chunked && !ex.req.Expect100 && ex.req.Upgrade == nil && ex.req.ContentLength <= int64(len(ex.c.Buffered()))
}

// receive reads and parses the head of the request.
func (ex *exchange) receive() Reason {
	err := ex.parseErr
	if !ex.parsed {
		since := ex.start
		if !ex.c.begun { // a PROXY header and a late first byte count, too
			since = ex.c.life.Peer().Since
		}
		err = ex.c.ReadRequest(&ex.c.settings.heads, &ex.req, since.Add(ex.c.settings.clients.HeaderTimeout))
		ex.now = time.Now()
	}
	ex.c.begun = true
	if err == nil {
		ex.reqBody.Reset(&ex.c.Conn, max(ex.req.ContentLength, 0), ex.req.Chunked, false, 0)
		ex.closing = ex.closing || ex.req.Close
		ex.requestID()
		ex.findClient()
		return ReasonOK
	}
	ex.closing = true
	var bad *http1.Error
	switch {
	case errors.As(err, &bad):
		ex.failStatus, ex.detail = bad.Status, bad.Detail
		return refusal(bad.Status)
	case err == http1.ErrHeld:
		return ReasonOverloaded
	case err == http1.ErrTimeout:
		return ReasonRequestHeaderTimeout
	case err == io.EOF, err == http1.ErrInterrupted:
		return ReasonClientGone
	default:
		ex.detail = "inside the request's head"
		return ReasonClientGone
	}
}

// refusal gives the parser's statuses their reasons.
func refusal(status int) Reason {
	switch status {
	case 405:
		return ReasonMethodRefused
	case 414, 431:
		return ReasonRequestHeadTooLarge
	case 417, 501, 505:
		return ReasonUnsupported
	default:
		return ReasonMalformedRequest
	}
}

// match finds the rule that takes the request. The table is loaded here, once.
func (ex *exchange) match() Reason {
	t := ex.p.table.Load()
	if t == nil {
		return ReasonNoTable
	}
	ex.query.Host, ex.query.Path = ex.req.Host, ex.req.Path
	ex.query.RawQuery, ex.query.Method = ex.req.Query, ex.req.Method
	ex.query.Headers = &ex.req
	r, ok := t.routes.Match(&ex.query)
	if !ok {
		return ReasonNoRoute
	}
	ex.rule, ex.series = r, r.series
	if r.timeouts.Request > 0 {
		ex.deadline = ex.start.Add(r.timeouts.Request)
	}
	if n, ok := ex.forwards(); ok && n == 0 {
		return ReasonForwardsSpent
	}
	return ReasonOK
}
