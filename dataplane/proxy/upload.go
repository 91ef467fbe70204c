package proxy

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// startUpload sends the rest of the body by a goroutine of its own, so that a
// response that comes early is seen and delivered.
func (ex *exchange) startUpload() {
	ex.uploading = true
	ex.sentAt = ex.now
	go ex.upload(ex.now)
}

// upload runs beside the rest of the exchange until it has sent on ex.uploaded.
// It alone reads from the client meanwhile.
func (ex *exchange) upload(now time.Time) {
	defer func() {
		if v := recover(); v != nil {
			ex.p.log.Error(nil, "an upload made the proxy panic; its connection is closed", "panic", v, "stack", string(debug.Stack()))
			ex.endUpload(ReasonInternal, false)
		}
	}()
	ex.endUpload(ex.pumpBody(now))
}

func (ex *exchange) endUpload(reason Reason, whole bool) {
	ex.uploadErr, ex.uploadSound = reason, whole
	ex.uploadEnd.Store(max(int64(time.Since(ex.start)), 1))
	if reason != ReasonOK {
		ex.up.Interrupt()
	}
	ex.uploaded <- struct{}{}
}

// pumpBody streams the body to the endpoint. A failure to write to it is not
// the last word: the endpoint may have answered already. So whole is false then
// and the reason is ReasonOK.
func (ex *exchange) pumpBody(now time.Time) (reason Reason, whole bool) {
	b := &ex.reqBody
	for !b.Done() {
		idle := now.Add(requestBodyIdle)
		waits := ex.req.Expect100 && b.Payload() == 0
		if waits {
			// The client waits for the endpoint, which has as long as for a
			// response.
			idle = time.Time{}
			if ex.rule.responseHeader > 0 {
				idle = ex.sentAt.Add(max(ex.rule.responseHeader, requestBodyIdle))
			}
		}
		if !ex.deadline.IsZero() && (idle.IsZero() || ex.deadline.Before(idle)) {
			idle = ex.deadline
		}
		var srcErr, dstErr error
		if b.CanSplice(ex.up) {
			_, srcErr, dstErr = b.Splice(ex.up, now, idle)
			now = time.Now()
		} else {
			var p []byte
			p, srcErr = b.Next(idle)
			now = time.Now()
			if b.Done() {
				ex.bodyRead.Store(true)
			}
			if len(p) > 0 {
				_, dstErr = ex.up.Write(p, now)
			}
		}
		if dstErr != nil {
			return ReasonOK, false
		}
		if srcErr != nil && !b.Done() {
			if srcErr == http1.ErrTimeout && !ex.deadline.IsZero() && !now.Before(ex.deadline) {
				return ReasonRequestTimeout, false
			}
			if srcErr == http1.ErrTimeout && waits && !ex.continued.Load() {
				return ReasonResponseHeaderTimeout, false
			}
			return ex.bodyReason(srcErr), false
		}
	}
	ex.bodyRead.Store(true)
	return ReasonOK, true
}

// bodyReason is the reason for which reading the client's body failed.
func (ex *exchange) bodyReason(err error) Reason {
	var bad *http1.Error
	switch {
	case err == http1.ErrBodyTooLarge:
		return ReasonRequestBodyTooLarge
	case err == http1.ErrTimeout:
		return ReasonRequestBodyTimeout
	case errors.As(err, &bad):
		return ReasonMalformedRequestBody
	default:
		return ReasonClientGone
	}
}

// lastWrite is how long the last piece of a body may take to reach an endpoint
// that has answered already.
const lastWrite = time.Second

// joinUpload waits for the upload to end, and ends it if it has not: then the
// response was complete before the request, and neither connection can be used
// for another.
func (ex *exchange) joinUpload(reason Reason) {
	if !ex.uploading {
		return
	}
	ended := ex.uploadEnd.Load() != 0
	if !ended && reason == ReasonOK && ex.bodyRead.Load() {
		ended = ex.awaitUpload()
	} else if ended {
		<-ex.uploaded
	}
	if !ended {
		_ = ex.up.Close() // ends a write
		ex.c.Interrupt()  // ends a read
		ex.closing, ex.upSpent = true, true
		<-ex.uploaded
	}
	ex.uploading = false
	ex.c.Resume()
	if !ex.uploadSound {
		ex.closing, ex.upSpent = true, true
	}
}

func (ex *exchange) awaitUpload() bool {
	t := time.NewTimer(lastWrite)
	defer t.Stop()
	select {
	case <-ex.uploaded:
		return true
	case <-t.C:
		return false
	}
}
