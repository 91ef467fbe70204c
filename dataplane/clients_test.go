package dataplane_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// tcpEngine is an Engine on loopback whose one backend serves each connection
// with a function; it returns the address for clients.
func tcpEngine(t *testing.T, clients proxy.ClientLimits, edit func(*plan.Rule), backend func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				backend(c.(*net.TCPConn))
			}()
		}
	}()
	e := dataplane.New(dataplane.Config{HTTP: "127.0.0.1:0", Log: logr.Discard(), Clients: clients, DrainTimeout: 20 * time.Second})
	p := limitedPlan(netip.MustParseAddrPort(l.Addr().String()))
	edit(&p.Routes[0].Rules[1])
	if err := e.Apply(p); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	soon(t, "it listens", func() bool { return e.Ready() == nil })
	return e.Addr("http").String()
}

const getFree = "GET /free HTTP/1.1\r\nHost: a\r\n\r\n"

// A client that sent an empty line or its next request and then left was not
// missed: what it had sent lay unread in front of its end. The backend worked on,
// until some timeout, which of a stream of events is an hour away.
func TestAClientThatLeavesBehindUnreadBytesIsMissed(t *testing.T) {
	working, told := make(chan struct{}, 1), make(chan struct{}, 1)
	address := tcpEngine(t, proxy.ClientLimits{}, func(r *plan.Rule) { r.Timeouts.ResponseHeader = time.Hour }, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for line := "-"; line != "\r\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		working <- struct{}{}
		_, _ = io.Copy(io.Discard, r)
		told <- struct{}{}
	})
	leaves := map[string]func(c *net.TCPConn){
		"closed": func(c *net.TCPConn) { _ = c.Close() },
		"reset":  func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	}
	for _, more := range []string{"\r\n", getFree} {
		for how, leave := range leaves {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			write(t, c, getFree)
			<-working
			write(t, c, more)
			leave(c.(*net.TCPConn))
			select {
			case <-told:
			case <-working:
				t.Errorf("%s behind %q: a request was sent on for nobody", how, more)
			case <-time.After(30 * time.Second):
				t.Fatalf("%s behind %q: the backend is not told", how, more)
			}
		}
	}
}

func write(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}
