package http1_test

import (
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
)

// acceptedPipe is a connection as the server accepts them.
var acceptedPipe tcpPipes = func(t testing.TB) (*http1.Conn, *net.TCPConn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tcp.NewListener(inner.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return http1.NewConn(near, time.Minute), far.(*net.TCPConn)
}

// A pipe takes two descriptors, which a busy proxy may not get.
func TestABodyThatCannotBeSplicedIsCopied(t *testing.T) {
	const size = 1 << 20
	src, from := acceptedPipe(t)
	dst, to := tcpPipe(t)
	go func() { _, _ = from.Write(make([]byte, size)) }() // ends with the test
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, to)
		got <- n
	}()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for range 3 { // collections, after which no pipe is kept
		runtime.GC()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	var b http1.Body
	b.Reset(src, size, false, false, 0)
	move(t, &b, dst)
	restore()
	_ = dst.CloseWrite()
	if n := <-got; n != size {
		t.Errorf("%d of %d bytes came", n, size)
	}
	b.Reset(src, size, false, false, 0)
	if !b.CanSplice(dst) {
		t.Error("the next body is not spliced, either")
	}
}
