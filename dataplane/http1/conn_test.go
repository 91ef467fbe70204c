package http1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
)

func memPipe(stall time.Duration) (*http1.Conn, *memnet.Conn) {
	a, b := memnet.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2"))
	return http1.NewConn(a, stall), b
}

// tcpPipes makes connections over loopback.
type tcpPipes func(t testing.TB) (near *http1.Conn, far *net.TCPConn)

// overTCP runs a test with each kind of TCP connection that there is.
func overTCP(t *testing.T, test func(t *testing.T, tcpPipe tcpPipes)) {
	t.Run("dialed", func(t *testing.T) { test(t, tcpPipe) })
	if acceptedPipe != nil {
		t.Run("accepted", func(t *testing.T) { test(t, acceptedPipe) })
	}
}

// tcpPipe is a connection of package net.
func tcpPipe(t testing.TB) (*http1.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return http1.NewConn(near, time.Minute), far.(*net.TCPConn)
}

func write(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func TestAnIdleConnectionHoldsNoBuffer(t *testing.T) { overTCP(t, anIdleConnectionHoldsNoBuffer) }

func anIdleConnectionHoldsNoBuffer(t *testing.T, tcpPipe tcpPipes) {
	c, far := tcpPipe(t)
	before := http1.HeldBytes()
	got := make(chan error, 1)
	go func() { got <- c.AwaitData(time.Now().Add(time.Minute), nil) }()
	// It may hold a buffer while it looks, which it begins to do sooner or later.
	for rests, deadline := 0, time.Now().Add(20*time.Second); rests < 100; time.Sleep(100 * time.Microsecond) {
		held := http1.HeldBytes() - before
		if rests++; held != 0 {
			rests = 0
		}
		if held > 4<<10 || time.Now().After(deadline) {
			t.Fatalf("%d bytes are held while nothing comes", held)
		}
	}
	write(t, far, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := <-got; err != nil || string(c.Buffered()) != "GET / HTTP/1.1\r\nHost: a\r\n\r\n" {
		t.Fatalf("%q %v", c.Buffered(), err)
	}
	var r http1.Request
	if err := c.ReadRequest(&http1.DefaultLimits, &r, time.Time{}); err != nil {
		t.Fatal(err)
	}
	c.Release()
	if held := http1.HeldBytes() - before; held != 0 {
		t.Errorf("%d bytes are held after the request", held)
	}
}

func TestTheHeadStaysReadableWhileTheBodyIsRead(t *testing.T) {
	const size = 300_000
	c, far := memPipe(0)
	go func() {
		_, _ = fmt.Fprintf(far, "POST /a?b=c HTTP/1.1\r\nHost: shop\r\nX-Long: %s\r\nContent-Length: %d\r\n\r\n", strings.Repeat("y", 3000), size)
		_, _ = far.Write(bytes.Repeat([]byte("z"), size))
		_, _ = io.WriteString(far, "GET /next HTTP/1.1\r\nHost: shop\r\n\r\n")
	}()
	var r http1.Request
	if err := c.ReadRequest(&http1.DefaultLimits, &r, time.Time{}); err != nil {
		t.Fatal(err)
	}
	var b http1.Body
	b.Reset(c, r.ContentLength, r.Chunked, false, 0)
	n := 0
	for {
		p, err := b.Next(time.Time{})
		if strings.Trim(string(p), "z") != "" {
			t.Fatalf("the body holds %q", strings.Trim(string(p), "z"))
		}
		n += len(p)
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != size || string(r.Method) != "POST" || string(r.Path) != "/a" || string(r.Query) != "b=c" || string(r.Host) != "shop" {
		t.Errorf("%d bytes; head is %q %q %q %q", n, r.Method, r.Path, r.Query, r.Host)
	}
	c.Release()
	r.Reset()
	if err := c.ReadRequest(&http1.DefaultLimits, &r, time.Time{}); err != nil || string(r.Path) != "/next" {
		t.Errorf("the next request is %q, %v", r.Path, err)
	}
}

func TestADeadlineThatIsNotTheOneArmedIsKeptAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := memPipe(0)
		began := time.Now()
		if err := c.Fill(began.Add(2 * time.Second)); err != http1.ErrTimeout || time.Since(began) != 2*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		// A later deadline is kept though an earlier one is armed, an earlier one
		// though a later is.
		go func() { time.Sleep(time.Second); _, _ = io.WriteString(far, "x") }()
		if err := c.Fill(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := c.Fill(began.Add(time.Hour)); err != http1.ErrTimeout || time.Since(began) != time.Hour {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		began = time.Now()
		if err := c.Fill(began.Add(time.Millisecond)); err != http1.ErrTimeout || time.Since(began) != time.Millisecond {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
	})
}

func TestInterruptEndsAReadAndResumeAllowsTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := memPipe(0)
		go func() { time.Sleep(time.Second); c.Interrupt() }()
		if err := c.Fill(time.Time{}); err != http1.ErrInterrupted {
			t.Fatal(err)
		}
		if err := c.Fill(time.Now().Add(time.Hour)); err != http1.ErrInterrupted {
			t.Fatal(err)
		}
		c.Resume()
		write(t, far, "x")
		if err := c.Fill(time.Time{}); err != nil || string(c.Buffered()) != "x" {
			t.Fatalf("%q %v", c.Buffered(), err)
		}
	})
}

func TestAWriterGivesUpOnAPeerThatTakesNothingButNotOnASlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := memPipe(10 * time.Second)
		big := make([]byte, 10*memnet.BufferSize)
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(big, time.Now())
			done <- err
		}()
		p := make([]byte, memnet.BufferSize)
		for range 9 {
			time.Sleep(4 * time.Second)
			if _, err := io.ReadFull(far, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("a slow reader: %v", err)
		}
		began := time.Now()
		if _, err := c.Write(big, time.Now()); err != http1.ErrTimeout {
			t.Fatalf("a stuck reader: %v", err)
		}
		if d := time.Since(began); d < 5*time.Second || d > 20*time.Second {
			t.Errorf("gave up after %s", d)
		}
	})
}

func TestAReusedConnectionIsCheckedBeforeAnythingIsWritten(t *testing.T) {
	for name, spoil := range map[string]func(far *net.TCPConn){
		"closed":        func(far *net.TCPConn) { _ = far.Close() },
		"half-closed":   func(far *net.TCPConn) { _ = far.CloseWrite() },
		"reset":         func(far *net.TCPConn) { _ = far.SetLinger(0); _ = far.Close() },
		"unasked bytes": func(far *net.TCPConn) { _, _ = far.Write([]byte("HTTP/1.1 408 Timeout\r\n\r\n")) },
	} {
		for _, wait := range []bool{true, false} {
			c, far := tcpPipe(t)
			spoil(far)
			for c.Alive() && !c.Pending() {
				time.Sleep(100 * time.Microsecond) // until the kernel has passed it on
			}
			now := time.Now()
			var sent int
			var err error
			if wait {
				sent, err = c.RoundTrip([]byte("GET / HTTP/1.1\r\n\r\n"), true, now, now.Add(time.Minute))
			} else {
				sent, err = c.Send([]byte("GET / HTTP/1.1\r\n\r\n"), true, now)
			}
			if sent != 0 || err != http1.ErrStale || len(c.Buffered()) > 0 {
				t.Errorf("%s, waiting %v: sent %d, %v, %q", name, wait, sent, err, c.Buffered())
			}
		}
	}
}

func TestRoundTripWritesAndWaitsForTheAnswer(t *testing.T) {
	c, far := tcpPipe(t)
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(time.Millisecond)
			_, _ = far.Write(bytes.ToUpper(buf[:n]))
		}
	}()
	for i := range 50 {
		out := fmt.Sprintf("request %d", i)
		now := time.Now()
		sent, err := c.RoundTrip([]byte(out), i > 0, now, now.Add(time.Minute))
		if sent != len(out) || err != nil || string(c.Buffered()) != strings.ToUpper(out) {
			t.Fatalf("sent %d, %v, got %q", sent, err, c.Buffered())
		}
		c.Free()
	}
	began := time.Now()
	if _, err := c.RoundTrip(nil, false, began, began.Add(50*time.Millisecond)); err != http1.ErrTimeout {
		t.Errorf("without an answer: %v", err)
	}
}

// TestALargeBodyIsSplicedWhole moves a body between two TCP connections inside
// the kernel and checks every byte, also after what was buffered with the head.
func TestALargeBodyIsSplicedWhole(t *testing.T) { overTCP(t, aLargeBodyIsSplicedWhole) }

func aLargeBodyIsSplicedWhole(t *testing.T, tcpPipe tcpPipes) {
	const size = 5<<20 + 17
	for _, untilClose := range []bool{false, true} {
		src, from := tcpPipe(t)
		dst, to := tcpPipe(t)
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		go func() {
			_, _ = from.Write(want)
			if untilClose {
				_ = from.CloseWrite()
			}
		}()
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(to)
			got <- b
		}()
		var b http1.Body
		length := int64(size)
		if untilClose {
			length = http1.UntilClose
		}
		if err := src.Fill(time.Time{}); err != nil {
			t.Fatal(err)
		}
		b.Reset(src, length, false, false, 0)
		spliced := move(t, &b, dst)
		_ = dst.CloseWrite()
		if g := <-got; !bytes.Equal(g, want) {
			t.Errorf("until close %v: %d bytes of %d arrived, or others", untilClose, len(g), size)
		}
		if b.Payload() != size || !b.Done() || spliced < size/2 {
			t.Errorf("until close %v: payload %d, done %v, spliced %d", untilClose, b.Payload(), b.Done(), spliced)
		}
	}
}

// move pumps a body and returns how much of it was spliced.
func move(t *testing.T, b *http1.Body, dst *http1.Conn) (spliced int64) {
	t.Helper()
	for !b.Done() {
		now := time.Now()
		if b.CanSplice(dst) {
			n, srcErr, dstErr := b.Splice(dst, now.Add(time.Minute))
			spliced += n
			if dstErr != nil || srcErr != nil && srcErr != io.EOF {
				t.Fatal(srcErr, dstErr)
			}
			continue
		}
		p, err := b.Next(now.Add(time.Minute))
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := dst.Write(p, now); err != nil {
			t.Fatal(err)
		}
	}
	return spliced
}

// A splice went on until it had its 128 KiB, or its deadline. A tunnel that had a
// byte now and then in one direction was cut as silent, because nobody knew of them.
func TestASpliceComesBackWithTheLittleThatThereIs(t *testing.T) {
	overTCP(t, aSpliceComesBackWithTheLittleThatThereIs)
}

func aSpliceComesBackWithTheLittleThatThereIs(t *testing.T, tcpPipe tcpPipes) {
	src, from := tcpPipe(t)
	dst, _ := tcpPipe(t)
	var b http1.Body
	b.Reset(src, http1.UntilClose, false, false, 0)
	if !b.CanSplice(dst) {
		return // not on this system
	}
	write(t, from, "x")
	got := make(chan int64, 1)
	go func() {
		n, srcErr, dstErr := b.Splice(dst, time.Time{})
		if srcErr != nil || dstErr != nil {
			t.Error(srcErr, dstErr)
		}
		got <- n
	}()
	select {
	case n := <-got:
		if n != 1 {
			t.Errorf("%d bytes", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on for more")
		_ = src.Close()
		<-got
	}
}

func TestASpliceSaysWhichSideFailed(t *testing.T) { overTCP(t, aSpliceSaysWhichSideFailed) }

func aSpliceSaysWhichSideFailed(t *testing.T, tcpPipe tcpPipes) {
	src, from := tcpPipe(t)
	dst, to := tcpPipe(t)
	var b http1.Body
	b.Reset(src, 1<<20, false, false, 0)
	now := time.Now()
	if _, srcErr, dstErr := b.Splice(dst, now.Add(20*time.Millisecond)); srcErr != http1.ErrTimeout || dstErr != nil {
		t.Errorf("nothing comes: %v, %v", srcErr, dstErr)
	}
	write(t, from, "some")
	_ = from.CloseWrite()
	n, srcErr, dstErr := b.Splice(dst, now.Add(time.Minute))
	if n != 4 || !errors.Is(srcErr, io.ErrUnexpectedEOF) || dstErr != nil {
		t.Errorf("the source ends early: %d, %v, %v", n, srcErr, dstErr)
	}

	src, from = tcpPipe(t)
	b.Reset(src, 1<<30, false, false, 0)
	_ = to.SetLinger(0)
	_ = to.Close()
	go func() { // ends when the test closes the connection
		for {
			if _, err := from.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	for srcErr, dstErr = nil, nil; srcErr == nil && dstErr == nil; {
		_, srcErr, dstErr = b.Splice(dst, now.Add(time.Minute))
	}
	if dstErr == nil {
		t.Errorf("the destination is gone, but the source is blamed: %v", srcErr)
	}
}

// A write's deadline was armed before a splice waited for its source: a source
// that was silent for longer than a peer may stall made the peer look stalled.
func TestASpliceMayWaitForItsSourceLongerThanAPeerMayStall(t *testing.T) {
	overTCP(t, aSpliceMayWaitForItsSourceLongerThanAPeerMayStall)
}

func aSpliceMayWaitForItsSourceLongerThanAPeerMayStall(t *testing.T, tcpPipe tcpPipes) {
	const stall = 2 * time.Second
	src, from := tcpPipe(t)
	wrapped, to := tcpPipe(t)
	dst := http1.NewConn(wrapped.NetConn(), stall)
	go func() {
		time.Sleep(stall + stall/4)
		_, _ = io.WriteString(from, "late")
		_ = from.CloseWrite()
	}()
	var b http1.Body
	b.Reset(src, http1.UntilClose, false, false, 0)
	if move(t, &b, dst) != 4 {
		t.Error("not all of it was spliced")
	}
	_ = dst.CloseWrite()
	if got, err := io.ReadAll(to); string(got) != "late" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestABodyIsCappedWhereItPassesItsLimit(t *testing.T) {
	for _, framing := range []struct {
		name   string
		length int64
		pieces [2]string
	}{
		{"chunked", 0, [2]string{"5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"}},
		{"with a length", 10, [2]string{"hello", "world"}},
	} {
		for _, limit := range []int64{9, 10} {
			c, far := memPipe(0)
			go func() {
				_, _ = io.WriteString(far, framing.pieces[0])
				_, _ = io.WriteString(far, framing.pieces[1])
			}()
			var b http1.Body
			b.Reset(c, framing.length, framing.length == 0, true, limit)
			var got []byte
			var err error
			for err == nil {
				var p []byte
				p, err = b.Next(time.Time{})
				got = append(got, p...)
			}
			if limit == 10 && (string(got) != "helloworld" || err != io.EOF) {
				t.Errorf("%s, at the limit: %q %v", framing.name, got, err)
			}
			if limit == 9 && (err != http1.ErrBodyTooLarge || b.Done()) {
				t.Errorf("%s, above the limit: %q %v, done: %v", framing.name, got, err, b.Done())
			}
		}
	}
}
