// Package redistest owns the Redis of tests: a real redis-server, each on a port
// of its own and without files, that can be killed, stopped and started again.
//
// The server is that of the variable REDIS_SERVER, else the one in PATH. `make
// test` looks for it and, where there is none, leaves out the tests that need it:
// they have the build tag redis. A Server is one test's: nothing of
// it may be called concurrently.
package redistest

import (
	"bufio"
	"cmp"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Server is a redis-server, which ends with its test.
type Server struct {
	tb   testing.TB
	args []string
	port int
	cmd  *exec.Cmd
	gone chan struct{}
}

// Start runs a server with further arguments. With some that begin with "--tls",
// its port speaks TLS only.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, args: args}
	// Another process may take the port in between; then another one will do.
	for range 5 {
		if s.port = freePort(tb); s.run() {
			tb.Cleanup(s.Kill)
			return s
		}
	}
	tb.Fatal("redis-server does not start")
	return nil
}

func freePort(tb testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run starts the server on its port and reports whether it accepts connections.
func (s *Server) run() bool {
	port, tls := strconv.Itoa(s.port), "0"
	if slices.ContainsFunc(s.args, func(a string) bool { return strings.HasPrefix(a, "--tls") }) {
		port, tls = tls, port
	}
	args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.tb.TempDir()}
	if tls != "0" {
		args = append(args, "--tls-port", tls)
	}
	s.cmd = exec.Command(cmp.Or(os.Getenv("REDIS_SERVER"), "redis-server"), append(args, s.args...)...)
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	ready, gone := make(chan bool, 1), make(chan struct{})
	s.gone = gone
	go func() {
		defer close(gone)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "Ready to accept connections") {
				ready <- true
			}
		}
		_ = s.cmd.Wait() // it was killed, or it says why on its output
		ready <- false
	}()
	return <-ready
}

// Addr is the address that the server listens on, as long as it lives.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Kill ends the server at once, as kill -9 does, and waits until it is gone. One
// that is gone already stays so.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // or it is gone
	<-s.gone
}

// Restart starts a server that was killed on the same port, with nothing in it.
func (s *Server) Restart() {
	s.tb.Helper()
	for range 100 {
		if s.run() {
			return
		}
	}
	s.tb.Fatal("redis-server does not start again")
}

// Hang makes the server stop answering, and keep its connections; Resume ends it.
func (s *Server) Hang() { s.signal(syscall.SIGSTOP) }

// Resume makes the server answer again.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}
