package proxy

import (
	"io"
	"runtime/debug"
	"sync"
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
	ex.setOut(append(out, "\r\n"...))
	if _, err := ex.c.Write(ex.out, ex.now); err != nil {
		return ex.clientWriteReason(err)
	}
	ex.status = 101
	ex.reqBody.Reset(&ex.c.Conn, http1.UntilClose, false, false, 0)
	ex.resBody.Reset(ex.up, http1.UntilClose, false, false, 0)

	ends := &tunnelEnds{started: ex.now, client: &ex.c.Conn, endpoint: ex.up}
	ex.c.life.Upgraded(func() { ends.stop(ReasonShutdown) })
	leave := ex.turn.Endpoint.Upgraded(func() { ends.stop(ReasonEndpointDrained) })
	defer leave()
	defer ends.finish() // also after a panic
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				ex.p.log.Error(nil, "a tunnel made the proxy panic; its connection is closed", "panic", v, "stack", string(debug.Stack()))
				ends.fail(ReasonInternal)
			}
		}()
		ends.pass(ex, &ex.reqBody, ex.up, nil, ReasonClientGone, ReasonResponseCut)
	}()
	ends.pass(ex, &ex.resBody, &ex.c.Conn, new(frames), ReasonResponseCut, ReasonClientGone)
	<-done
	ends.finish()
	ex.c.Resume() // for what is left to be read
	return ends.reason()
}

// tunnelEnds is what the two directions of a tunnel share.
type tunnelEnds struct {
	started          time.Time
	client, endpoint *http1.Conn
	active           atomic.Int64 // when bytes passed last, in ns since started
	why              atomic.Int32 // the Reason for which the tunnel was cut or stopped

	mu       sync.Mutex // for stop, which may come when the tunnel is over
	finished bool
}

func (e *tunnelEnds) reason() Reason { return Reason(e.why.Load()) }

// pass moves bytes one way until the source ends. srcGone and dstGone are the
// reasons for a failure of either side, which cuts the tunnel. With followed, a
// tunnel that is stopped ends with a Close frame where one may stand.
func (e *tunnelEnds) pass(ex *exchange, b *http1.Body, dst *http1.Conn, followed *frames, srcGone, dstGone Reason) {
	idle := ex.rule.timeouts.StreamIdle
	for {
		n, srcErr, dstErr := passPiece(b, dst, followed, e.until(idle))
		if n > 0 {
			e.active.Store(int64(time.Since(e.started)))
		}
		switch {
		case dstErr == http1.ErrTimeout && dst == e.client:
			e.fail(ReasonClientStalled)
			return
		case dstErr != nil:
			e.fail(dstGone)
			return
		case srcErr == io.EOF, srcErr == http1.ErrInterrupted:
			if srcErr != io.EOF && followed != nil && followed.between() {
				_, dstErr = dst.Write(goingAway, time.Now())
			}
			if dstErr != nil || dst.CloseWrite() != nil {
				e.fail(dstGone)
			}
			return
		case srcErr == http1.ErrTimeout:
			if until := e.until(idle); !until.IsZero() && !time.Now().Before(until) {
				e.fail(ReasonStreamIdle)
				return
			}
		case srcErr != nil:
			e.fail(srcGone)
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

// passPiece moves what there is to move. What is followed has to be seen, and so
// is copied.
func passPiece(b *http1.Body, dst *http1.Conn, followed *frames, deadline time.Time) (n int64, srcErr, dstErr error) {
	if followed == nil && b.CanSplice(dst) {
		return b.Splice(dst, deadline)
	}
	p, srcErr := b.Next(deadline)
	if len(p) > 0 {
		if followed != nil {
			followed.pass(p)
		}
		_, dstErr = dst.Write(p, time.Now())
	}
	return int64(len(p)), srcErr, dstErr
}

// fail cuts the tunnel for a reason, unless that has happened.
func (e *tunnelEnds) fail(reason Reason) {
	if e.why.CompareAndSwap(int32(ReasonOK), int32(reason)) {
		e.close()
	}
}

func (e *tunnelEnds) close() {
	_ = e.endpoint.Close() // ends what a direction waits for
	_ = e.client.Close()   // likewise
}

// stopGrace is how long a tunnel that is stopped may take to pass on what it
// has read.
const stopGrace = time.Second

// stop ends the tunnel from outside, at any time and from any goroutine: nothing
// more is read, what was read is passed on, and both sides are told that nothing
// more comes, as at the end of a stream; the client by a Close frame, 1001 (going
// away), unless the endpoint is in the middle of a frame.
func (e *tunnelEnds) stop(reason Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finished || !e.why.CompareAndSwap(int32(ReasonOK), int32(reason)) {
		return
	}
	e.client.Interrupt()
	e.endpoint.Interrupt()
	time.AfterFunc(stopGrace, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.finished {
			e.close()
		}
	})
}

// finish lets go of the connections: from now on stop does nothing with them.
func (e *tunnelEnds) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = true
}
