package proxy

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// liveliness is what the two directions of an exchange know of each other while
// both are under way, in nanoseconds since its start.
type liveliness struct {
	// streaming: gRPC or text/event-stream, for which silence is normal. Then the
	// rule's streamIdle counts, for both directions together.
	streaming atomic.Bool
	// sent and received are when bytes of the body passed last, to the endpoint
	// and from it.
	sent, received atomic.Int64
}

// noteStream looks whether a message is one of a stream.
func (ex *exchange) noteStream(fields []http1.Field) {
	if isStream(fields) {
		ex.streaming.Store(true)
	}
}

// isStream reports whether a message's media type is one of those that are sent
// as things happen.
func isStream(fields []http1.Field) bool {
	for i := range fields {
		f := &fields[i]
		if f.Kind != http1.Content || !bytes.EqualFold(f.Name, []byte("Content-Type")) {
			continue
		}
		return hasPrefixFold(f.Value, "text/event-stream") || hasPrefixFold(f.Value, "application/grpc")
	}
	return false
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}

// moment is a time as liveliness keeps it.
func (ex *exchange) moment(t time.Time) int64 { return int64(t.Sub(ex.start)) }

// idleUntil is until when a direction whose bytes passed last at moved may stay
// silent, and the reason when it does not end that. A zero time is for ever.
func (ex *exchange) idleUntil(moved time.Time, idle time.Duration, late Reason) (time.Time, Reason) {
	if ex.streaming.Load() {
		moved = later(moved, ex.start.Add(time.Duration(max(ex.sent.Load(), ex.received.Load()))))
		idle, late = ex.rule.timeouts.StreamIdle, ReasonStreamIdle
	}
	if idle == 0 {
		return time.Time{}, late
	}
	return moved.Add(idle), late
}

// rateGrace is how long a client may take to get up to speed.
const rateGrace = 10 * time.Second

// maxEarned keeps what a very long body earns at a very low rate within a
// Duration.
const maxEarned = 1 << 53 * time.Nanosecond

// pace holds the client to the least rate at which it has to send a body, on
// average over the time that was spent on waiting for it since the first byte:
// the time in which the endpoint takes nothing is not the client's.
type pace struct {
	rate   int64 // bytes per second; 0: any
	waited time.Duration
}

// left is how much longer the client may be waited for, with payload bytes of
// the body read.
func (p *pace) left(payload int64) time.Duration {
	earned := min(float64(payload)/float64(p.rate), maxEarned.Seconds())
	return rateGrace + time.Duration(earned*float64(time.Second)) - p.waited
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
