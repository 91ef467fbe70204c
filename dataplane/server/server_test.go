package server_test

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// handler serves a connection by a function.
type handler func(nc net.Conn, life proxy.Life)

func (h handler) ServeConn(nc net.Conn, life proxy.Life) { h(nc, life) }

// exhausted is a listener that has no file descriptors for a while.
type exhausted struct {
	*memnet.Listener
	failures atomic.Int64
	until    time.Time
}

func (l *exhausted) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		l.failures.Add(1)
		return nil, &net.OpError{Op: "accept", Net: "mem", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

var front = netip.MustParseAddrPort("192.0.2.80:80")

func TestFailuresToAcceptAreWaitedOutWithoutSpinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := &exhausted{Listener: n.Listen(front), until: time.Now().Add(time.Minute)}
		logged := 0
		log := funcr.New(func(_, _ string) { logged++ }, funcr.Options{})
		s := server.New(handler(func(nc net.Conn, _ proxy.Life) { _ = nc.Close() }), server.Config{Log: log})
		go s.Serve(l)
		c, err := n.Dial(front)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection was not served")
		}
		if waited := time.Since(began); waited < 59*time.Second || waited > 61*time.Second {
			t.Errorf("served after %s, want about a minute", waited)
		}
		if f := l.failures.Load(); f < 120 || f > 140 {
			t.Errorf("%d tries in a minute, want about two a second", f)
		}
		if s.Stats.AcceptErrors.Load() != l.failures.Load() || logged != 1 {
			t.Errorf("%d failures, %d counted, %d logged (want 1)", l.failures.Load(), s.Stats.AcceptErrors.Load(), logged)
		}
		s.Drain(t.Context(), server.DrainTimes{})
	})
}

func TestADrainWithoutConnectionsEndsAfterItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		s := server.New(handler(func(nc net.Conn, _ proxy.Life) { _ = nc.Close() }), server.Config{})
		go s.Serve(n.Listen(front))
		synctest.Wait()
		began := time.Now()
		if cut := s.Drain(t.Context(), server.DrainTimes{Delay: 5 * time.Second, Timeout: 30 * time.Second, Upgraded: 30 * time.Second}); cut != (server.Cut{}) || time.Since(began) != 5*time.Second {
			t.Errorf("%v cut after %s", cut, time.Since(began))
		}
	})
}

// lateListener does something before it closes.
type lateListener struct {
	*memnet.Listener
	before func()
}

func (l *lateListener) Close() error {
	l.before()
	return l.Listener.Close()
}

// The last connection of a server that drains ended just before its listener was
// closed, and one that had been accepted meanwhile was not waited for: it ended with
// the process.
func TestAConnectionThatComesAsTheLastOneEndsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		served := 0
		s := server.New(handler(func(nc net.Conn, life proxy.Life) {
			defer nc.Close()
			if life.Idle() && life.Busy() {
				_, _ = nc.Read(make([]byte, 1)) // the request's end
				served++
			}
		}), server.Config{})
		request := func() net.Conn {
			c, err := n.Dial(front)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return c
		}
		l := &lateListener{Listener: n.Listen(front)}
		go s.Serve(l)
		early := request()
		l.before = func() {
			_ = early.Close()
			time.Sleep(time.Millisecond)
			late := request()
			time.AfterFunc(10*time.Second, func() { _ = late.Close() })
		}
		began := time.Now()
		cut := s.Drain(t.Context(), server.DrainTimes{Timeout: time.Minute, Upgraded: time.Minute})
		if took := time.Since(began).Truncate(time.Second); cut != (server.Cut{}) || took != 10*time.Second || served != 2 {
			t.Errorf("%v cut, %d served when the drain has ended after %s", cut, served, took)
		}
	})
}

func TestAListenerThatComesWhileDrainingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		s := server.New(handler(func(nc net.Conn, _ proxy.Life) { _ = nc.Close() }), server.Config{})
		s.Drain(t.Context(), server.DrainTimes{})
		s.Serve(n.Listen(front)) // returns
		if _, err := n.Dial(front); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialing gives %v", err)
		}
	})
}

func TestAConnectionThatWasClosedWhileIdleIsNotBusyAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		busy := make(chan bool, 1)
		s := server.New(handler(func(nc net.Conn, life proxy.Life) {
			defer nc.Close()
			if !life.Idle() || !life.Busy() || !life.Idle() {
				t.Error("a connection is not wanted")
			}
			time.Sleep(time.Second) // the request begins just as the drain does
			busy <- life.Busy()
		}), server.Config{})
		go s.Serve(n.Listen(front))
		if _, err := n.Dial(front); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if cut := s.Drain(t.Context(), server.DrainTimes{Timeout: time.Minute, Upgraded: time.Minute}); cut != (server.Cut{}) {
			t.Errorf("%v cut", cut)
		}
		if <-busy {
			t.Error("a closed connection was given a request")
		}
		if s.Stats.Open.Load() != 0 || s.Stats.Accepted.Load() != 1 {
			t.Errorf("open %d, accepted %d", s.Stats.Open.Load(), s.Stats.Accepted.Load())
		}
	})
}
