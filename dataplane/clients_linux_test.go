package dataplane_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
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
	t.Cleanup(runEngine(t, e))
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

// A client that read slowly was given up, although it went on: of a body with a
// length a step of 128 KiB had to reach it within the time in which it has to take
// something, and of any other the kernel says that there is room only when there
// are some 64 KiB of it. What it takes in between did not count.
func TestAClientThatReadsSlowlyIsServed(t *testing.T) {
	const size, wanted = 8 << 20, 24 << 10
	for name, field := range map[string]string{"with a length": "Content-Length: 8388608", "until the end": "Connection: close"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Half of that is how long the test may sleep by accident.
			clients := proxy.ClientLimits{WriteTimeout: 4 * time.Second}
			address := tcpEngine(t, clients, func(*plan.Rule) {}, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 4<<10))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+field+"\r\n\r\n")
				_, _ = c.Write(make([]byte, size)) // which the client does not want whole
			})
			d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
				failed := c.Control(func(fd uintptr) {
					err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10),
						syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536))
				})
				return errors.Join(failed, err)
			}}
			c, err := d.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			write(t, c, getFree)
			piece := make([]byte, 512)
			tick := time.NewTicker(250 * time.Millisecond) // 2 KiB a second
			defer tick.Stop()
			for n := 0; n < wanted; <-tick.C {
				m, err := c.Read(piece)
				n += m
				if err != nil {
					t.Fatalf("%v after %d bytes", err, n)
				}
			}
		})
	}
}
