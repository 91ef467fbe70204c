package server_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// told is a listener that tells when connections are accepted from it first.
type told struct {
	*tcp.Listener
	once   sync.Once
	served chan struct{}
}

func (l *told) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.served) })
	return l.Listener.Accept()
}

// sharer is a server on a port that it shares.
type sharer struct {
	*server.Server
	addr    string
	served  atomic.Int64  // connections that said something
	yielded chan struct{} // closed when it gives new connections to others
}

func startSharer(t *testing.T, addr string) *sharer {
	t.Helper()
	l, err := server.Listen(t.Context(), addr, true)
	if err != nil {
		t.Fatal(err)
	}
	s := &sharer{addr: fmt.Sprint("127.0.0.1:", l.Addr().(*net.TCPAddr).Port), yielded: make(chan struct{})}
	log := funcr.New(func(_, args string) {
		if strings.Contains(args, "new connections go to another process") {
			close(s.yielded)
		}
	}, funcr.Options{})
	s.Server = server.New(handler(func(nc net.Conn, _ proxy.Life) {
		defer nc.Close()
		if n, _ := nc.Read(make([]byte, 1)); n == 1 {
			s.served.Add(1)
			_, _ = nc.Write([]byte("x"))
		}
	}), server.Config{Log: log})
	serving := &told{Listener: l.(*tcp.Listener), served: make(chan struct{})}
	go s.Serve(serving)
	<-serving.served
	return s
}

// connect makes connections, one after the other, and fails when one is not served.
func connect(t *testing.T, addr string, times int) {
	t.Helper()
	for range times {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

func TestNewConnectionsGoToTheOthersOnThePortWhileOneDrains(t *testing.T) {
	const servers, connections = 3, 40
	for leaves, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
		t.Run(fmt.Sprint("number ", leaves), func(t *testing.T) {
			t.Parallel()
			all := []*sharer{startSharer(t, host+":0")}
			addr := all[0].addr
			shared := host + strings.TrimPrefix(addr, "127.0.0.1")
			for len(all) < servers {
				all = append(all, startSharer(t, shared))
			}
			drained := make(chan server.Cut)
			go func() { drained <- all[leaves].Drain(t.Context(), server.DrainTimes{Delay: 2 * time.Second}) }()
			<-all[leaves].yielded
			before := all[leaves].served.Load()
			connect(t, addr, connections)
			if n := all[leaves].served.Load() - before; n != 0 {
				t.Errorf("%d of %d connections went to the one that drains", n, connections)
			}
			<-drained
			connect(t, addr, connections)

			joined := startSharer(t, shared)
			connect(t, addr, connections)
			if n := joined.served.Load(); n == 0 || n == connections {
				t.Errorf("%d of %d connections went to one that has joined since", n, connections)
			}
		})
	}
}

func TestAServerThatIsAloneOnItsPortTakesConnectionsUntilTheEndOfTheDelay(t *testing.T) {
	s := startSharer(t, "127.0.0.1:0")
	began := time.Now()
	drained := make(chan server.Cut)
	go func() { drained <- s.Drain(t.Context(), server.DrainTimes{Delay: 2 * time.Second}) }()
	for s.Stats.Accepted.Load() < 2 { // the looks
		time.Sleep(time.Millisecond)
	}
	connect(t, s.addr, 20)
	if cut := <-drained; cut != (server.Cut{}) || time.Since(began) < 2*time.Second {
		t.Errorf("cut %+v after %s", cut, time.Since(began))
	}
	select {
	case <-s.yielded:
		t.Error("it says that there is another one")
	default:
	}
}

// A drain whose context was canceled, which cuts everything short, waited for the end
// of a look none the less: an eighth of the delay.
func TestALookAtWhoSharesAPortEndsWithTheDrain(t *testing.T) {
	s := startSharer(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan server.Cut)
	go func() { drained <- s.Drain(ctx, server.DrainTimes{Delay: 10 * time.Minute}) }()
	for s.Stats.Accepted.Load() == 0 { // the look
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Fatal("it drains on")
	}
	select {
	case <-s.yielded:
		t.Error("it says that there is another one")
	default:
	}
}

// With a delay of some minutes a look took longer than the time that clients have for
// what they send first, was turned away itself, and found nobody.
func TestALookAtWhoSharesAPortIsOverBeforeItsTimeForAHeader(t *testing.T) {
	leaves := startSharer(t, "127.0.0.1:0")
	startSharer(t, leaves.addr)
	leaves.Reconfigure(server.Config{ProxyProtocol: proxy.Prefixes{netip.MustParsePrefix("127.0.0.0/8")}, HeaderTimeout: 3 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan server.Cut)
	go func() { drained <- leaves.Drain(ctx, server.DrainTimes{Delay: 10 * time.Minute}) }()
	select {
	case <-leaves.yielded:
	case <-time.After(10 * time.Second):
		t.Error("it has not found the other one")
	}
	cancel()
	<-drained
}
