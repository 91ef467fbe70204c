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
	ex.prepareKeep()
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
	ex.noteStream(ex.req.Fields)
	pace := pace{rate: ex.rule.limits.MinRequestBodyRate}
	if ex.keep.resend(ex.up, &now) != nil {
		return ReasonOK, false
	}
	for moved := now; !b.Done(); {
		until, _ := ex.uploadUntil(moved, now, &pace)
		n, srcErr, dstErr := ex.pumpPiece(until, &now, &pace)
		if n > 0 {
			moved = now
			ex.sent.Store(ex.moment(now))
		}
		switch {
		case dstErr != nil:
			return ReasonOK, false
		case srcErr == nil, b.Done():
		case srcErr == http1.ErrInterrupted: // by stopUpload: the attempt has failed
			return ReasonOK, false
		case srcErr != http1.ErrTimeout:
			return ex.bodyReason(srcErr), false
		default:
			// Something may have passed the other way, or the response begun,
			// since the deadline was set.
			if until, late := ex.uploadUntil(moved, now, &pace); !until.IsZero() && !now.Before(until) {
				return late, false
			}
		}
	}
	ex.bodyRead.Store(true)
	return ReasonOK, true
}

// uploadUntil is until when the client is waited for, and the reason if that is
// in vain.
func (ex *exchange) uploadUntil(moved, now time.Time, pace *pace) (until time.Time, late Reason) {
	t := &ex.rule.timeouts
	asked, ok := ex.asked()
	if !ok && ex.reqBody.Payload() == 0 {
		// The client waits for the endpoint, which has as long as for a
		// response.
		if t.ResponseHeader > 0 {
			until, late = ex.sentAt.Add(max(t.ResponseHeader, t.RequestBodyIdle)), ReasonResponseHeaderTimeout
		}
	} else {
		until, late = ex.idleUntil(later(moved, asked), t.RequestBodyIdle, ReasonRequestBodyTimeout)
		if pace.rate > 0 && ex.reqBody.Payload() > 0 && !ex.streaming.Load() {
			if slow := now.Add(pace.left(ex.reqBody.Payload())); until.IsZero() || slow.Before(until) {
				until, late = slow, ReasonRequestBodyTooSlow
			}
		}
	}
	if !ex.until.IsZero() && (until.IsZero() || ex.until.Before(until)) {
		until, late = ex.until, ex.late
	}
	return until, late
}

// asked is since when the client may be sending the body: from the start on, or
// from 100 (Continue) on; false: it still waits for that.
func (ex *exchange) asked() (since time.Time, ok bool) {
	if !ex.req.Expect100 {
		return ex.start, true
	}
	c := ex.continued.Load()
	return ex.start.Add(time.Duration(c)), c != 0
}

// pumpPiece sends the next piece of the body and sets now to the time after
// that.
func (ex *exchange) pumpPiece(until time.Time, now *time.Time, pace *pace) (n int64, srcErr, dstErr error) {
	b, began := &ex.reqBody, *now
	counts := b.Payload() > 0 // the wait for the first byte is the idle timeout's
	if !ex.keep.on && b.CanSplice(ex.up) {
		ex.keep.lose()
		n, srcErr, dstErr = b.Splice(ex.up, until)
		*now = time.Now()
		if counts && !b.Done() && n < http1.SpliceStep && !ex.c.Pending() { // else the endpoint was the slow one
			pace.waited += now.Sub(began)
		}
		return n, srcErr, dstErr
	}
	p, srcErr := b.Next(until)
	*now = time.Now()
	if counts {
		pace.waited += now.Sub(began)
	}
	if b.Done() {
		ex.bodyRead.Store(true)
	}
	if len(p) > 0 {
		ex.keep.add(p)
		_, dstErr = ex.up.Write(p, *now)
		*now = time.Now()
	}
	return int64(len(p)), srcErr, dstErr
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
// response was complete before the request, and the endpoint's connection cannot be
// used for another; nor can the client's, unless all of the body was read from it.
func (ex *exchange) joinUpload(reason Reason) {
	if !ex.uploading {
		return
	}
	ended := ex.uploadEnd.Load() != 0
	if !ended && reason == ReasonOK && ex.bodyRead.Load() {
		ended = ex.awaitUpload(lastWrite)
	} else if ended {
		<-ex.uploaded
	}
	if !ended {
		_ = ex.up.Close() // ends a write
		ex.c.Interrupt()  // ends a read
		ex.upSpent = true
		<-ex.uploaded
	}
	ex.uploading = false
	ex.c.Resume()
	ex.closing = ex.closing || !ex.bodyRead.Load()
	ex.upSpent = ex.upSpent || !ex.uploadSound
}

// stopUpload ends the upload of an attempt that is given up. With patience its
// connection is only closed if that is needed.
func (ex *exchange) stopUpload(patience time.Duration) {
	if !ex.uploading {
		return
	}
	ex.c.Interrupt() // ends a read
	if patience == 0 || !ex.awaitUpload(patience) {
		_ = ex.up.Close() // ends a write
		<-ex.uploaded
	}
	ex.uploading = false
	ex.upSpent = ex.upSpent || !ex.uploadSound
	ex.c.Resume()
}

func (ex *exchange) awaitUpload(patience time.Duration) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ex.uploaded:
		return true
	case <-t.C:
		return false
	}
}
