package tcp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
)

const (
	request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	answer  = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
)

func TestAConnectionThatIsAnsweredAtOnceIsNeverPolled(t *testing.T) {
	nc, client := connect(t, listen(t), request)
	c := http1.NewConn(nc, time.Minute)
	err := c.AwaitData(time.Now().Add(soon), func() (now, until time.Time, again bool) {
		if _, err := c.WriteFinal([]byte(answer), time.Now()); err != nil || string(c.Buffered()) != request {
			t.Errorf("%v, the request is %q", err, c.Buffered())
		}
		return now, until, false
	})
	if !c.Alive() {
		t.Error("the client is said to be gone")
	}
	c.Free()
	if c.Pending() {
		t.Error("the client is said to have sent more")
	}
	if err != nil || nc.Polled() {
		t.Errorf("%v, polled: %t", err, nc.Polled())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := readAll(t, client); got != answer {
		t.Errorf("the client got %q", got)
	}
}

func TestARequestThatComesRightAfterItsConnectionDoesNotPollIt(t *testing.T) {
	c, client := pair(t, false)
	raw, _ := c.SyscallConn()
	var got []byte
	err := raw.Read(func(fd uintptr) bool {
		if got == nil {
			got = make([]byte, len(request))
			_, _ = io.WriteString(client, request) // which the next look finds: loopback does not delay
			return false
		}
		_, err := unix.Read(int(fd), got)
		return err == nil
	})
	if err != nil || string(got) != request || c.Polled() {
		t.Errorf("%v, %q, polled: %t", err, got, c.Polled())
	}
}

func TestARequestThatComesLaterIsWaitedFor(t *testing.T) {
	nc, client := pair(t, false)
	c := http1.NewConn(nc, time.Minute)
	go func() {
		for !nc.Polled() {
			time.Sleep(time.Millisecond)
		}
		_, _ = io.WriteString(client, request)
	}()
	if err := c.AwaitData(time.Now().Add(soon), nil); err != nil || string(c.Buffered()) != request {
		t.Errorf("%v, the request is %q", err, c.Buffered())
	}
}

// The read of which the callback serves a request writes an answer that the
// client does not take at once, which polls the connection under the read.
func TestAnAnswerThatHasToWaitDoesNotDisturbTheReadThatItIsWrittenIn(t *testing.T) {
	nc, client := connect(t, listen(t), "first")
	c := http1.NewConn(nc, time.Minute)
	body := bytes.Repeat([]byte("answer"), 1<<20)
	got := make(chan int, 1)
	var seen []string
	err := c.AwaitData(time.Now().Add(soon), func() (now, until time.Time, again bool) {
		seen = append(seen, string(c.Buffered()))
		c.Free()
		if len(seen) > 1 {
			return now, until, false
		}
		go func() {
			for !nc.Polled() { // nothing is read before the writer waits
				time.Sleep(time.Millisecond)
			}
			n, _ := io.ReadFull(client, make([]byte, len(body)))
			_, _ = io.WriteString(client, "second")
			got <- n
		}()
		if _, err := c.Write(body, time.Now()); err != nil {
			t.Error(err)
		}
		now = time.Now()
		return now, now.Add(soon), true
	})
	if err != nil || len(seen) != 2 || seen[1] != "second" {
		t.Errorf("%v, after %q", err, seen)
	}
	if n := <-got; n != len(body) {
		t.Errorf("the client got %d of %d bytes", n, len(body))
	}
}

func TestDeadlinesCountHoweverEarlyTheyAreSet(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, client *net.TCPConn) {
		var buf [8]byte
		timesOut := func(what string, err error) {
			t.Helper()
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v", what, err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := c.Read(buf[:])
		timesOut("a read that waits", err)

		_, _ = io.WriteString(client, "here")
		_, err = c.Read(buf[:])
		timesOut("a read after its deadline", err)

		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		for err = nil; err == nil; {
			_, err = c.Write(make([]byte, 1<<20))
		}
		timesOut("a write that waits", err)

		_ = c.SetDeadline(time.Time{})
		if n, err := c.Read(buf[:]); err != nil || string(buf[:n]) != "here" {
			t.Errorf("after the deadline was lifted: %q, %v", buf[:n], err)
		}
	})
}

func TestADeadlineOfABareConnectionIsForEachDirection(t *testing.T) {
	c, client := pair(t, false)
	_ = c.SetReadDeadline(past)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("a write after the deadline of reads: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(past)
	_, _ = io.WriteString(client, "y")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("a read after the deadline of writes: %v", err)
	}
	if c.Polled() {
		t.Error("a deadline polls the connection")
	}
}

func TestAWaitEndsWhenItsDeadlineIsMovedIntoThePast(t *testing.T) {
	for _, polled := range []bool{false, true} {
		nc, _ := pair(t, polled)
		c := http1.NewConn(nc, time.Minute)
		failed := make(chan error, 1)
		go func() { failed <- c.Fill(time.Now().Add(soon)) }()
		c.Interrupt() // before, while or after the connection becomes a polled one
		if err := <-failed; err != http1.ErrInterrupted {
			t.Errorf("polled %t: %v", polled, err)
		}
	}
}

func TestCloseEndsAWait(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, _ *net.TCPConn) {
		var done sync.WaitGroup
		done.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the read: %v", err)
			}
		})
		done.Go(func() {
			var err error
			for err == nil {
				_, err = c.Write(make([]byte, 1<<20))
			}
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("the write: %v", err)
			}
		})
		eventually(t, "the connection is polled", c.Polled)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		done.Wait()
		for what, err := range map[string]error{
			"Close": c.Close(), "SetDeadline": c.SetDeadline(time.Time{}), "CloseWrite": c.CloseWrite(), "SetLinger": c.SetLinger(0),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
	})
}

// A descriptor that is closed under a system call may be another file's by then.
func TestTheDescriptorIsOpenUntilItsLastUserHasLeft(t *testing.T) {
	c, client := pair(t, false)
	raw, _ := c.SyscallConn()
	err := raw.Read(func(fd uintptr) bool {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if !isSocket(int(fd)) {
			t.Error("the descriptor is closed while it is used")
		}
		if err := raw.Control(func(uintptr) { t.Error("there is a new user after Close") }); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		return false // to wait, which nobody may any more
	})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("to wait after Close: %v", err)
	}
	if got := readAll(t, client); got != "" {
		t.Errorf("the client got %q", got)
	}
}

// The same for a user that has come before the connection was polled, and leaves
// after it was closed.
func TestAUserOfTheBareDescriptorOutlivesThePoll(t *testing.T) {
	c, client := pair(t, false)
	raw, _ := c.SyscallConn()
	in, out := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		_ = raw.Control(func(fd uintptr) {
			close(in)
			<-out
			if !isSocket(int(fd)) {
				t.Error("the descriptor is closed while it is used")
			}
		})
	})
	<-in
	wantPolled(t, c)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		failed <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the wait: %v", err)
	}
	close(out)
	done.Wait()
	if got := readAll(t, client); got != "" {
		t.Errorf("the client got %q", got)
	}
}

// busy uses a connection as a server does, from several goroutines, and closes it
// more than once.
func busy(t *testing.T, nc *tcp.Conn, closed *atomic.Int64) {
	c := http1.NewConn(nc, time.Minute)
	var done sync.WaitGroup
	done.Go(func() {
		_ = c.AwaitData(time.Now().Add(soon), func() (now, until time.Time, again bool) {
			_, _ = c.Write([]byte(answer), time.Now())
			c.Free()
			now = time.Now()
			return now, now.Add(soon), true
		})
		c.Free()
	})
	done.Go(func() {
		for i := 0; i < 50 && c.Alive(); i++ {
			c.Interrupt()
		}
	})
	for range 2 {
		done.Go(func() {
			if nc.Close() == nil {
				closed.Add(1)
			}
		})
	}
	// Descriptors of somebody else, which the kernel numbers like those that
	// were closed.
	done.Go(func() {
		for range 20 {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Error(err)
				return
			}
			if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
				t.Errorf("%v: the descriptor of a file is that of something else", err)
			}
			if err := f.Close(); err != nil {
				t.Errorf("a file was closed by somebody else: %v", err)
			}
		}
	})
	done.Wait()
}

func TestADescriptorIsClosedOnceWhateverElseHappens(t *testing.T) {
	const workers, each = 12, 40
	l := listen(t)
	before := sockets(t)
	var closed atomic.Int64
	var all sync.WaitGroup
	var accept sync.Mutex
	for worker := range workers {
		all.Go(func() {
			for i := range each {
				accept.Lock()
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					accept.Unlock()
					return
				}
				if (worker+i)%2 == 0 {
					_, _ = io.WriteString(client, request)
				}
				nc, err := l.Accept()
				accept.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				busy(t, nc.(*tcp.Conn), &closed)
				_ = client.Close()
			}
		})
	}
	all.Wait()
	if closed.Load() != workers*each {
		t.Errorf("of %d connections, Close has closed %d", workers*each, closed.Load())
	}
	eventually(t, "no descriptor is left over", func() bool { return sockets(t) <= before })
}

func TestAbortResetsTheConnection(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, nc *tcp.Conn, client *net.TCPConn) {
		http1.NewConn(nc, time.Minute).Abort()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client sees %v", err)
		}
	})
}

func TestSetLingerIsUndoneByLessThanZero(t *testing.T) {
	c, client := pair(t, false)
	if err := errors.Join(c.SetLinger(0), c.SetLinger(-1)); err != nil {
		t.Error(err)
	}
	if err := c.SetLinger(1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a Close that waits: %v", err)
	}
	_ = c.Close()
	if got := readAll(t, client); got != "" {
		t.Errorf("the client got %q", got)
	}
}

func TestCloseWriteEndsOneDirection(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, client *net.TCPConn) {
		if _, err := io.WriteString(c, "bye"); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if got := readAll(t, client); got != "bye" {
			t.Errorf("the client got %q", got)
		}
		_, _ = io.WriteString(client, "farewell")
		_ = client.CloseWrite()
		if got := readAll(t, c); got != "farewell" {
			t.Errorf("the server got %q", got)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a write after CloseWrite: %v", err)
		}
	})
}

func TestAConnectionKnowsItsAddresses(t *testing.T) {
	bareAndPolled(t, func(t *testing.T, c *tcp.Conn, client *net.TCPConn) {
		if c.LocalAddr().String() != client.RemoteAddr().String() {
			t.Errorf("local %s, the client's remote %s", c.LocalAddr(), client.RemoteAddr())
		}
		if c.RemoteAddr().String() != client.LocalAddr().String() || c.Peer().String() != client.LocalAddr().String() {
			t.Errorf("remote %s, peer %s, the client's local %s", c.RemoteAddr(), c.Peer(), client.LocalAddr())
		}
	})
}

func TestAddressesAreReadAsTheKernelWritesThem(t *testing.T) {
	six := &syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Scope_id: 3}
	six.Port = binary.NativeEndian.Uint16([]byte{0x1f, 0x90})
	six.Addr = [16]byte{0xfe, 0x80, 15: 1}
	if got := tcp.AddrPort(six).String(); got != "[fe80::1]:8080" {
		t.Errorf("IPv6: %s", got)
	}
	six.Addr = [16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 7}
	if got := tcp.AddrPort(six).String(); got != "192.0.2.7:8080" {
		t.Errorf("IPv4 of an IPv6 socket: %s", got)
	}
	six.Family = syscall.AF_UNIX
	if tcp.AddrPort(six).IsValid() {
		t.Error("another family has an address")
	}
}

func TestConnectionsInheritTheOptionsOfTheirListener(t *testing.T) {
	c, _ := pair(t, false)
	raw, _ := c.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		if on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 || err != nil {
			t.Errorf("TCP_NODELAY is %d, %v", on, err)
		}
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("the descriptor blocks: %#x, %v", flags, err)
		}
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the descriptor is handed to child processes: %#x, %v", flags, err)
		}
	})
}
