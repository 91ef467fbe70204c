package tcp_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

func TestClosingAListenerEndsAccept(t *testing.T) {
	l := listen(t)
	failed := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		failed <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody listens still: %v", err)
	}
}

// withoutDescriptors calls f while the process gets no more descriptors.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func TestAcceptWithoutDescriptorsFailsUntilThereAreSome(t *testing.T) {
	l := listen(t)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	withoutDescriptors(t, func() {
		for range 2 {
			if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) || errors.Is(err, net.ErrClosed) {
				t.Errorf("%v", err)
			}
		}
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != client.LocalAddr().String() {
		t.Error("the connection that waited was lost")
	}
}

func TestTheLastConnectionsAreThoseOfTheQueue(t *testing.T) {
	l := listen(t)
	clients := make([]net.Conn, 5)
	for i := range clients {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[i] = c
		if _, err := io.WriteString(c, c.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
	}
	last := l.Last()
	if _, err := l.Accept(); err == nil {
		t.Error("it accepts more")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if len(last) != len(clients) {
		t.Fatalf("%d of %d connections", len(last), len(clients))
	}
	for i, c := range last {
		want := clients[i].LocalAddr().String()
		_, _ = io.WriteString(c, "bye")
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want || c.RemoteAddr().String() != want {
			t.Errorf("%s sent %q, %v; want %s", c.RemoteAddr(), buf, err, want)
		}
		_ = c.Close()
		if got := readAll(t, clients[i]); got != "bye" {
			t.Errorf("the client got %q", got)
		}
	}
	if l.Last() != nil {
		t.Error("a closed listener has connections")
	}
}
