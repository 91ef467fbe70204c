package proxy

import (
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// tunnel answers 101 and then passes bytes both ways until both sides have said
// that they send no more (RFC 9110, 7.8). One side's end is passed on, and does
// not end the other direction.
func (ex *exchange) tunnel() Reason {
	ex.closing, ex.upSpent = true, true
	out := http1.AppendStatusLine(ex.out[:0], 101)
	out = http1.AppendFields(out, ex.res.Fields, framing)
	out = http1.AppendField(out, "X-Request-ID", ex.id)
	out = ex.appendSession(out)
	out = ex.appendRate(out)
	out = append(out, "Connection: Upgrade\r\n"...)
	out = http1.AppendField(out, "Upgrade", ex.res.Upgrade)
	ex.out = append(out, "\r\n"...)
	if _, err := ex.c.Write(ex.out, ex.now); err != nil {
		return clientWriteReason(err)
	}
	ex.status = 101
	ex.reqBody.Reset(&ex.c.Conn, http1.UntilClose, false, false, 0)
	ex.resBody.Reset(ex.up, http1.UntilClose, false, false, 0)

	ends := tunnelEnds{started: ex.now}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				ex.p.log.Error(nil, "a tunnel made the proxy panic; its connection is closed", "panic", v, "stack", string(debug.Stack()))
				ends.fail(ex, ReasonInternal)
			}
		}()
		ends.pass(ex, &ex.reqBody, ex.up, ReasonClientGone, ReasonResponseCut)
	}()
	ends.pass(ex, &ex.resBody, &ex.c.Conn, ReasonResponseCut, ReasonClientGone)
	<-done
	return ends.reason
}

// tunnelEnds is what the two directions of a tunnel share.
type tunnelEnds struct {
	started time.Time
	active  atomic.Int64 // when bytes passed last, in ns since started
	isCut   atomic.Bool
	reason  Reason // why the tunnel was cut; written once, by who has set isCut
}

// pass moves bytes one way until the source ends. srcGone and dstGone are the
// reasons for a failure of either side, which cuts the tunnel.
func (e *tunnelEnds) pass(ex *exchange, b *http1.Body, dst *http1.Conn, srcGone, dstGone Reason) {
	idle := ex.rule.timeouts.StreamIdle
	for now := e.started; ; now = time.Now() {
		n, srcErr, dstErr := passPiece(b, dst, now, e.until(idle))
		if n > 0 {
			e.active.Store(int64(time.Since(e.started)))
		}
		switch {
		case dstErr == http1.ErrTimeout && dst == &ex.c.Conn:
			e.fail(ex, ReasonClientStalled)
			return
		case dstErr != nil:
			e.fail(ex, dstGone)
			return
		case srcErr == io.EOF:
			if dst.CloseWrite() != nil {
				e.fail(ex, dstGone)
			}
			return
		case srcErr == http1.ErrTimeout:
			if until := e.until(idle); !until.IsZero() && !time.Now().Before(until) {
				e.fail(ex, ReasonStreamIdle)
				return
			}
		case srcErr != nil:
			e.fail(ex, srcGone)
			return
		}
	}
}

// until is until when both directions may be silent; the zero time is for ever.
func (e *tunnelEnds) until(idle time.Duration) time.Time {
	if idle == 0 {
		return time.Time{}
	}
	return e.started.Add(time.Duration(e.active.Load()) + idle)
}

func passPiece(b *http1.Body, dst *http1.Conn, now, deadline time.Time) (n int64, srcErr, dstErr error) {
	if b.CanSplice(dst) {
		return b.Splice(dst, now, deadline)
	}
	p, srcErr := b.Next(deadline)
	if len(p) > 0 {
		_, dstErr = dst.Write(p, time.Now())
	}
	return int64(len(p)), srcErr, dstErr
}

// fail cuts the tunnel for a reason, unless that has happened.
func (e *tunnelEnds) fail(ex *exchange, reason Reason) {
	if e.isCut.CompareAndSwap(false, true) {
		e.reason = reason
		_ = ex.up.Close() // ends what the other direction waits for
		_ = ex.c.Close()  // likewise
	}
}
