package shared

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// fake speaks the little of Redis' protocol that a client needs, and counts. Every
// bucket is full.
type fake struct {
	listener net.Listener

	mu       sync.Mutex
	accepted int      // connections so far
	making   int      // of those, the ones that have not had their first answer yet
	most     int      // of making, ever
	refusal  string   // what a take gets; "": a token
	hold     int      // takes that are to be there before any of them is answered
	held     int      // takes that are there
	all      chan any // closed when they all are
}

// newFake returns a fake that listens on loopback until the test ends.
func newFake(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.locked(func() {
				f.accepted++
				f.making++
				f.most = max(f.most, f.making)
			})
			go f.serve(c)
		}
	}()
	return f
}

func (f *fake) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	r, made := bufio.NewReader(c), sync.OnceFunc(func() { f.locked(func() { f.making-- }) })
	defer made()
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		made()
		answer := "+OK\r\n"
		switch strings.ToUpper(command) {
		case "HELLO":
			answer = "-ERR unknown command 'HELLO'\r\n" // as of a Redis before 6
		case "PING":
			answer = "+PONG\r\n"
		case "EVALSHA", "EVAL":
			answer = f.take()
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// take answers a take, after those that are held with it are there.
func (f *fake) take() string {
	var wait chan any
	refusal := ""
	f.locked(func() {
		refusal = f.refusal
		if f.hold > 0 {
			wait = f.all
			if f.held++; f.held == f.hold {
				close(f.all)
			}
		}
	})
	if wait != nil {
		<-wait
	}
	if refusal != "" {
		return "-" + refusal + "\r\n"
	}
	return "*2\r\n:1\r\n:1000000\r\n"
}

// readCommand returns the name of the next command.
func readCommand(r *bufio.Reader) (name string, err error) {
	n, err := readCount(r, '*')
	for i := range n {
		length, err := readCount(r, '$')
		if err != nil {
			return "", err
		}
		word := make([]byte, length+2)
		if _, err = io.ReadFull(r, word); err != nil {
			return "", err
		}
		if i == 0 {
			name = string(word[:length])
		}
	}
	return name, err
}

func readCount(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, errors.New("not what was expected: " + line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// patient is a Config that a slow machine does not time out.
func (c Config) patient() Config {
	c.Timeout = 20 * time.Second
	return c
}

// running is a Store over a Redis, with Run.
func running(t *testing.T, c Config) *Store {
	t.Helper()
	s := New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// eventually asks again and again.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never became true: %s", what)
		}
	}
}

// A Redis that was found again got as many connections at once as there were
// requests, from all replicas at the same time, and requests waited for handshakes:
// some for too long, which counted as a failure, so that it was lost again.
func TestARedisThatIsFoundGetsItsConnectionsOneByOneAndBeforeRequests(t *testing.T) {
	f := newFake(t)
	s := running(t, Config{Address: f.listener.Addr().String()}.patient())
	eventually(t, "it is found", s.Up)
	f.locked(func() {
		if f.accepted != poolSize() || f.most != 1 {
			t.Errorf("%d connections, up to %d at once, want %d and 1", f.accepted, f.most, poolSize())
		}
		f.hold, f.all = poolSize(), make(chan any)
	})
	var asked sync.WaitGroup
	for range 3 * poolSize() { // of which the first ones are all under way before one is answered
		asked.Go(func() {
			if _, ok := ask(s, "x"); !ok {
				t.Error("not answered")
			}
		})
	}
	asked.Wait()
	f.locked(func() {
		if f.accepted != poolSize() {
			t.Errorf("%d connections after requests, want %d", f.accepted, poolSize())
		}
	})
}

// The wait for a connection was as long as the one for an answer, so that whichever
// timer was first said whether Redis had failed when all connections were in use.
func TestACallThatFindsNoConnectionInTimeSaysSoAndNotThatRedisIsSlow(t *testing.T) {
	f := newFake(t)
	const timeout = 2 * time.Second
	c := newClient(Config{Address: f.listener.Addr().String(), Timeout: timeout})
	defer c.close()
	for range poolSize() {
		conn := c.redis.Load().Conn()
		defer conn.Close()
		if err := ping(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout*3/4) // what speaks against Redis when it is up
	defer cancel()
	if _, err := c.take(ctx, "b", limit.Rate{}); err != errBusy {
		t.Errorf("got %v, want %v", err, errBusy)
	}
}

// Redis holds no more than its maxmemory, and what it does not evict it refuses.
func TestARedisThatIsOutOfMemoryIsLostUntilItHasSome(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	said := ""
	c := Config{Address: f.listener.Addr().String(), Log: funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		said += args + "\n"
	}, funcr.Options{})}
	s := running(t, c.patient())
	eventually(t, "it is found", s.Up)
	f.locked(func() { f.refusal = "OOM command not allowed when used memory > 'maxmemory'." })
	for range 3 {
		if _, ok := ask(s, "x"); ok || s.Up() {
			t.Errorf("answered: %t, still asked: %t", ok, s.Up())
		}
	}
	mu.Lock()
	if strings.Count(said, "OOM") != 1 {
		t.Errorf("the log is %s", said)
	}
	mu.Unlock()
	f.locked(func() { f.refusal = "" })
	eventually(t, "it is found again", s.Up)
}
