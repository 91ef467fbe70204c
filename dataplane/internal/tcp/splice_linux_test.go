package tcp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
)

func raw(t testing.TB, c syscall.Conn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dialed are both ends of a connection of package net, as to an endpoint.
func dialed(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close(); _ = other.Close() })
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

// end is either kind of connection.
type end interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

func TestBytesAreSplicedBothWaysBetweenAcceptedAndDialedConnections(t *testing.T) {
	const size = 5<<20 + 17
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, client *net.TCPConn) {
		up, endpoint := dialed(t)
		for way, ends := range map[string][4]end{"up": {client, c, up, endpoint}, "down": {endpoint, up, c, client}} {
			from, src, dst, to := ends[0], ends[1], ends[2], ends[3]
			go func() {
				_, _ = from.Write(sent)
				_ = from.CloseWrite()
			}()
			got := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(to)
				got <- b
			}()
			total := int64(0)
			var srcErr, dstErr error
			for srcErr == nil && dstErr == nil {
				var n int64
				n, srcErr, dstErr = tcp.Splice(raw(t, dst), raw(t, src), 128<<10)
				total += n
			}
			if srcErr != io.EOF || dstErr != nil || total != size {
				t.Errorf("%s: %d bytes, %v, %v", way, total, srcErr, dstErr)
			}
			_ = dst.CloseWrite()
			if b := <-got; !bytes.Equal(b, sent) {
				t.Errorf("%s: %d of %d bytes arrived, or others", way, len(b), size)
			}
		}
	})
}

func TestASpliceEndsWithTheDeadlineOfTheSideThatIsWaitedFor(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, client *net.TCPConn) {
		up, endpoint := dialed(t)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, srcErr, dstErr := tcp.Splice(raw(t, up), raw(t, c), 1<<20)
		if n != 0 || !errors.Is(srcErr, os.ErrDeadlineExceeded) || dstErr != nil {
			t.Errorf("the source is silent: %d, %v, %v", n, srcErr, dstErr)
		}
		go func() { _, _ = io.Copy(endpoint, zeros{}) }() // ends with the test
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		for srcErr, dstErr = nil, nil; srcErr == nil && dstErr == nil; {
			_, srcErr, dstErr = tcp.Splice(raw(t, c), raw(t, up), 1<<20)
		}
		if srcErr != nil || !errors.Is(dstErr, os.ErrDeadlineExceeded) {
			t.Errorf("the destination takes nothing: %v, %v", srcErr, dstErr)
		}
		_ = client.SetLinger(0)
		_ = client.Close()
		_ = c.SetWriteDeadline(time.Time{})
		for srcErr, dstErr = nil, nil; srcErr == nil && dstErr == nil; {
			_, srcErr, dstErr = tcp.Splice(raw(t, c), raw(t, up), 1<<20)
		}
		if srcErr != nil || dstErr == nil {
			t.Errorf("the destination is gone: %v, %v", srcErr, dstErr)
		}
	})
}

// zeros is a source without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestWithoutDescriptorsNothingIsSplicedAndNothingIsLost(t *testing.T) {
	c, client := pair(t, false)
	up, _ := dialed(t)
	_, _ = io.WriteString(client, "kept")
	for range 3 { // collections, after which no pipe is kept
		runtime.GC()
	}
	withoutDescriptors(t, func() {
		if n, srcErr, dstErr := tcp.Splice(raw(t, up), raw(t, c), 4); n != 0 || srcErr != tcp.ErrNoPipe || dstErr != nil {
			t.Errorf("%d, %v, %v", n, srcErr, dstErr)
		}
	})
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "kept" {
		t.Errorf("%q, %v", buf, err)
	}
}
