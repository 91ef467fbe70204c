package http1_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// A splice takes bytes into a pipe before it writes them. When the deadline of
// its writes passed half way, the rest of the pipe was lost, the source's
// deadline was blamed for the end of the call, and the transfer went on behind
// the hole, to be reported as whole.
func TestASlowReaderGetsAllOfASplicedBodyOrAnError(t *testing.T) {
	const size = 4 << 20
	src, from := tcpPipe(t)
	wrapped, to := tcpPipe(t)
	_ = to.SetReadBuffer(32 << 10)
	if s, ok := wrapped.NetConn().(interface{ SetWriteBuffer(int) error }); ok {
		_ = s.SetWriteBuffer(32 << 10)
	}
	dst := http1.NewConn(wrapped.NetConn(), 400*time.Millisecond)
	go func() {
		b := make([]byte, size)
		for i := 0; i < size; i += 4 {
			binary.BigEndian.PutUint32(b[i:], uint32(i))
		}
		_, _ = from.Write(b)
		_ = from.CloseWrite()
	}()
	received := make(chan []byte, 1)
	go func() {
		b := make([]byte, size)
		at := 0
		for at < size {
			n, err := to.Read(b[at:min(at+40<<10, size)])
			at += n
			if err != nil {
				break
			}
			if at < 1<<20 {
				time.Sleep(40 * time.Millisecond) // slow, but always taking something
			}
		}
		received <- b[:at]
	}()
	var b http1.Body
	b.Reset(src, http1.UntilClose, false, false, 0)
	var dstErr error
	for !b.Done() && dstErr == nil {
		now := time.Now()
		_, _, dstErr = b.Splice(dst, now.Add(time.Second))
	}
	_ = dst.CloseWrite()
	got := <-received
	for i := 0; i+4 <= len(got); i += 4 {
		if at := binary.BigEndian.Uint32(got[i:]); at != uint32(i) {
			t.Fatalf("at offset %d are the bytes of offset %d", i, at)
		}
	}
	if dstErr == nil && len(got) != size {
		t.Errorf("reported as delivered whole, but %d of %d bytes came", len(got), size)
	}
}

// A server that refuses an upload answers and resets the connection. The answer,
// unread, hid the reset from the look at the destination, so the client was
// blamed and the answer thrown away.
func TestAFailureToWriteInASpliceIsTheDestinationsThoughItHasSentSomething(t *testing.T) {
	overTCP(t, aFailureToWriteInASpliceIsTheDestinationsThoughItHasSentSomething)
}

func aFailureToWriteInASpliceIsTheDestinationsThoughItHasSentSomething(t *testing.T, tcpPipe tcpPipes) {
	src, from := tcpPipe(t)
	dst, to := tcpPipe(t)
	go func() { _, _ = from.Write(make([]byte, 4<<20)) }() // ends with the test
	write(t, dst.NetConn(), "head")
	const answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
	write(t, to, answer)
	if err := dst.Fill(time.Now().Add(time.Minute)); err != nil { // the answer has arrived
		t.Fatal(err)
	}
	write(t, to, answer)
	_ = to.Close() // with "head" unread: a reset
	var b http1.Body
	b.Reset(src, 64<<20, false, false, 0)
	var srcErr, dstErr error
	for srcErr == nil && dstErr == nil {
		now := time.Now()
		_, srcErr, dstErr = b.Splice(dst, now.Add(time.Minute))
	}
	if dstErr == nil {
		t.Errorf("the source is blamed: %v", srcErr)
	}
}

// The end of the stream that came together with the last request was not seen:
// its wake-up had been used up by the request's.
func TestTheEndThatComesWithTheLastRequestIsSeenSoon(t *testing.T) {
	overTCP(t, theEndThatComesWithTheLastRequestIsSeenSoon)
}

func theEndThatComesWithTheLastRequestIsSeenSoon(t *testing.T, tcpPipe tcpPipes) {
	c, far := tcpPipe(t)
	write(t, far, "GET / HTTP/1.1\r\n\r\n")
	_ = far.CloseWrite()
	time.Sleep(50 * time.Millisecond) // the request and the end are both there
	began := time.Now()
	err := c.AwaitData(began.Add(time.Hour), func() (now, until time.Time, again bool) {
		c.Free()
		now = time.Now()
		return now, now.Add(time.Hour), true
	})
	if err != io.EOF {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// A server that is full answers when it accepts. On a new connection that answer
// came before the request was written, and was only found when the deadline
// passed.
func TestAnAnswerThatCameBeforeTheRequestIsSeen(t *testing.T) {
	overTCP(t, anAnswerThatCameBeforeTheRequestIsSeen)
}

func anAnswerThatCameBeforeTheRequestIsSeen(t *testing.T, tcpPipe tcpPipes) {
	c, far := tcpPipe(t)
	write(t, far, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
	time.Sleep(50 * time.Millisecond) // it has arrived
	now := time.Now()
	if _, err := c.RoundTrip([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), false, now, now.Add(time.Minute)); err != nil {
		t.Error(err)
	}
}

// The deadline of a wait for an answer had passed before the request was
// written, because the request's head had taken long: the request was never
// written, and its answer was waited for.
func TestARoundTripWritesWhateverItsDeadline(t *testing.T) {
	overTCP(t, aRoundTripWritesWhateverItsDeadline)
}

func aRoundTripWritesWhateverItsDeadline(t *testing.T, tcpPipe tcpPipes) {
	c, far := tcpPipe(t)
	stale := time.Now().Add(-2 * time.Second)
	sent, err := c.RoundTrip([]byte("GET /"), true, stale, stale.Add(time.Second))
	if sent != 5 || err != http1.ErrTimeout {
		t.Errorf("sent %d, %v", sent, err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(far, buf); err != nil || string(buf) != "GET /" {
		t.Errorf("%q %v", buf, err)
	}
}

// When the peer took nothing of a request on a kept connection until the
// deadline of the write passed, RoundTrip took that for a read deadline that had
// passed too soon, and tried again without end and without waiting.
func TestARequestThatThePeerDoesNotTakeEndsTheRoundTrip(t *testing.T) {
	overTCP(t, aRequestThatThePeerDoesNotTakeEndsTheRoundTrip)
}

func aRequestThatThePeerDoesNotTakeEndsTheRoundTrip(t *testing.T, tcpPipe tcpPipes) {
	wrapped, far := tcpPipe(t)
	_ = far.SetReadBuffer(16 << 10)
	c := http1.NewConn(wrapped.NetConn(), 100*time.Millisecond)
	out := make([]byte, 16<<20) // more than the kernel buffers
	type result struct {
		sent int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		now := time.Now()
		sent, err := c.RoundTrip(out, true, now, now.Add(time.Hour))
		done <- result{sent, err}
	}()
	select {
	case r := <-done:
		if r.err != http1.ErrTimeout || r.sent == len(out) {
			t.Errorf("sent %d of %d bytes: %v", r.sent, len(out), r.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("RoundTrip does not end")
	}
}

// A client that had sent something more before it went was taken to be there for
// as long as that was not read: bytes hide the end of the stream, and even a reset,
// from a read that only looks.
func TestTheEndOfAConnectionIsSeenBehindUnreadBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		ends   func(far *net.TCPConn)
		broken bool
	}{
		"closed":      {func(far *net.TCPConn) { _ = far.Close() }, false},
		"half-closed": {func(far *net.TCPConn) { _ = far.CloseWrite() }, false},
		"reset":       {func(far *net.TCPConn) { _ = far.SetLinger(0); _ = far.Close() }, true},
	} {
		c, far := tcpPipe(t)
		write(t, far, "\r\n")
		if !c.Alive() || c.Broken() {
			t.Errorf("%s, before: alive %v, broken %v", name, c.Alive(), c.Broken())
		}
		tc.ends(far)
		for end := time.Now().Add(20 * time.Second); c.Alive() && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond) // until the kernel has passed it on
		}
		if c.Alive() || c.Broken() != tc.broken {
			t.Errorf("%s: alive %v, broken %v", name, c.Alive(), c.Broken())
		}
		if !tc.broken && !c.Pending() {
			t.Errorf("%s: the bytes are gone", name)
		}
		_ = c.Close()
		if c.Alive() || !c.Broken() {
			t.Errorf("%s, and closed here: alive %v, broken %v", name, c.Alive(), c.Broken())
		}
	}
}

// A splice looked up when a quarter of its destination's time to stall had passed,
// with nothing moved and no error; one that was called again at once, with the time
// of the first, did so without waiting.
func TestASpliceThatReturnsHasMovedSomethingOrWaitedUntilItsDeadline(t *testing.T) {
	src, _ := tcpPipe(t)
	wrapped, _ := tcpPipe(t)
	dst := http1.NewConn(wrapped.NetConn(), 40*time.Millisecond)
	var b http1.Body
	b.Reset(src, 1<<20, false, false, 0)
	deadline := time.Now().Add(200 * time.Millisecond)
	n, srcErr, dstErr := b.Splice(dst, deadline)
	if n != 0 || srcErr != http1.ErrTimeout || dstErr != nil || time.Now().Before(deadline) {
		t.Errorf("%d, %v, %v", n, srcErr, dstErr)
	}
}
