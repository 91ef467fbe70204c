package server_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// held is a listener whose goroutine is not scheduled before it is closed.
type held struct {
	*tcp.Listener
	served, closed chan struct{}
}

func (l *held) Accept() (net.Conn, error) {
	close(l.served)
	<-l.closed
	return nil, net.ErrClosed
}

func (l *held) Close() error {
	close(l.closed)
	return l.Listener.Close()
}

func TestConnectionsThatWaitForAcceptAreServedByADrain(t *testing.T) {
	l, err := server.Listen(t.Context(), "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(handler(func(nc net.Conn, life proxy.Life) {
		defer nc.Close()
		var request [4]byte
		if !life.Idle() {
			t.Error("a new connection is not wanted")
		}
		_, err := io.ReadFull(nc, request[:])
		if err == nil && life.Busy() {
			_, _ = nc.Write(request[:])
		}
	}), server.Config{})
	h := &held{l.(*tcp.Listener), make(chan struct{}), make(chan struct{})}
	go s.Serve(h)
	<-h.served
	clients := make([]net.Conn, 50)
	for i := range clients {
		if clients[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
		if _, err := io.WriteString(clients[i], "ping"); err != nil {
			t.Fatal(err)
		}
	}
	cut := s.Drain(t.Context(), server.DrainTimes{Timeout: 20 * time.Second, Upgraded: 20 * time.Second})
	if cut != (server.Cut{}) || s.Stats.Accepted.Load() != int64(len(clients)) {
		t.Errorf("%+v cut, %d of %d accepted", cut, s.Stats.Accepted.Load(), len(clients))
	}
	for i, c := range clients {
		if answer, err := io.ReadAll(c); err != nil || string(answer) != "ping" {
			t.Fatalf("client %d got %q, %v", i, answer, err)
		}
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}
