package tcp_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/tcp"
)

// soon is a deadline that is passed only when something hangs.
const soon = time.Minute

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func listen(t testing.TB) *tcp.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tcp.NewListener(inner.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// connect returns both ends of a connection: the client has sent first when it
// is accepted.
func connect(t testing.TB, l *tcp.Listener, first string) (*tcp.Conn, *net.TCPConn) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := io.WriteString(client, first); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*tcp.Conn), client.(*net.TCPConn)
}

// pair is connect with a listener of its own, and nothing sent; polled says
// whether the poller knows the connection.
func pair(t testing.TB, polled bool) (*tcp.Conn, *net.TCPConn) {
	t.Helper()
	c, client := connect(t, listen(t), "")
	if polled {
		wantPolled(t, c)
	}
	return c, client
}

// wantPolled makes the connection a polled one by a read that has to wait.
func wantPolled(t testing.TB, c *tcp.Conn) {
	t.Helper()
	raw, _ := c.SyscallConn()
	calls := 0
	if err := raw.Read(func(uintptr) bool { calls++; return calls > 2 }); err != nil {
		t.Fatal(err)
	}
	if !c.Polled() {
		t.Fatal("the connection is not polled after a wait")
	}
}

// bareAndPolled runs a test for either kind of connection.
func bareAndPolled(t *testing.T, f func(t *testing.T, c *tcp.Conn, client *net.TCPConn)) {
	for name, polled := range map[string]bool{"bare": false, "polled": true} {
		t.Run(name, func(t *testing.T) {
			c, client := pair(t, polled)
			f(t, c, client)
		})
	}
}

func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %q: %v", b, err)
	}
	return string(b)
}

// isSocket reports whether a descriptor is one of a socket.
func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// sockets counts the sockets that the process has open.
func sockets(t testing.TB) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && len(to) > 7 && to[:7] == "socket:" {
			n++
		}
	}
	return n
}

// eventually waits for something that another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
