package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic sends requests until it is stopped and holds every answer against what
// was sent. Nothing is tried again: each failure that a client sees counts.
type traffic struct {
	t       *testing.T
	address func() string // of the next connection
	host    string
	stop    chan struct{}
	clients sync.WaitGroup
	began   time.Time
	took    func(time.Duration) // is told of each answer; nil: nobody is
	sent    atomic.Int64
	good    atomic.Int64
	epoch   atomic.Int64
	under   [2]atomic.Int64 // requests under way, by whether the epoch they began in is odd

	mu       sync.Mutex
	failures []string
}

func newTraffic(t *testing.T, host string, address func() string) *traffic {
	return &traffic{t: t, address: address, host: host, began: time.Now(), stop: make(chan struct{})}
}

// keepAlive adds clients that keep their connections until they are asked to
// close them, and upload with every other request.
func (l *traffic) keepAlive(n int, pause time.Duration) { l.add(n, pause, false) }

// steady adds clients that keep their connections and send a number of requests
// per second together, as long as the machine can: one that is late makes up for
// it. Every eighth is an upload.
func (l *traffic) steady(clients, perSecond int) {
	every := time.Second * time.Duration(clients) / time.Duration(perSecond)
	for n := range clients {
		l.clients.Go(func() {
			c := &loadClient{load: l}
			defer c.close()
			for i, next := n, time.Now(); ; i++ {
				next = next.Add(every)
				select {
				case <-l.stop:
					return
				case <-time.After(time.Until(next)):
				}
				l.one(c, i%8 == 0)
			}
		})
	}
}

// churn adds clients that make a connection for each request.
func (l *traffic) churn(n int, pause time.Duration) { l.add(n, pause, true) }

func (l *traffic) add(n int, pause time.Duration, churn bool) {
	for range n {
		l.clients.Go(func() {
			c := &loadClient{load: l}
			defer c.close()
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(pause):
				}
				l.one(c, i%2 == 0)
				if churn {
					c.close()
				}
			}
		})
	}
}

func (l *traffic) one(c *loadClient, upload bool) {
	under := &l.under[l.epoch.Load()&1]
	under.Add(1)
	defer under.Add(-1)
	l.sent.Add(1)
	began := time.Now()
	err := c.ask(upload)
	if l.took != nil {
		l.took(time.Since(began))
	}
	if err != nil {
		l.fail(err)
		c.close()
		return
	}
	l.good.Add(1)
}

func (l *traffic) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, time.Now().Format("05.000 ")+err.Error())
}

// barrier waits until the load has gone on for 200 requests.
func (l *traffic) barrier() {
	l.t.Helper()
	target := l.good.Load() + 200
	eventually(l.t, "the load goes on", func() bool { return l.good.Load() >= target || l.failed() > 0 })
}

// settle waits until every request that was under way has ended, and no longer. One
// goroutine calls it at a time.
func (l *traffic) settle() {
	l.t.Helper()
	before := &l.under[(l.epoch.Add(1)-1)&1]
	eventually(l.t, "the requests under way end", func() bool { return before.Load() == 0 })
}

func (l *traffic) failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failures)
}

// end stops the load and fails the test for each request that failed.
func (l *traffic) end() {
	l.t.Helper()
	close(l.stop)
	l.clients.Wait()
	l.t.Logf("%d requests, %.0f per second, %d failed", l.sent.Load(), float64(l.sent.Load())/time.Since(l.began).Seconds(), len(l.failures))
	for i, f := range l.failures {
		if i == 10 {
			break
		}
		l.t.Error(f)
	}
	if l.good.Load() < 100 {
		l.t.Errorf("only %d requests: that is no load", l.good.Load())
	}
}

// loadClient is one client and its connection, if it has one.
type loadClient struct {
	load *traffic
	conn net.Conn
	r    *bufio.Reader
}

func (c *loadClient) close() {
	if c.conn != nil {
		_ = c.conn.Close() // its requests are answered
		c.conn = nil
	}
}

// ask sends one request and checks its answer, which is the hash of the body.
func (c *loadClient) ask(upload bool) error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.load.address(), patience)
		if err != nil {
			return err
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience)) // it is open
	body := ""
	head := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", c.load.host)
	if upload {
		body = strings.Repeat(string(rune('a'+rand.IntN(26))), rand.IntN(100_000))
		head = fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", c.load.host, len(body))
	}
	if _, err := io.WriteString(c.conn, head+body); err != nil {
		return fmt.Errorf("upload=%v, writing: %w", upload, err)
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return fmt.Errorf("upload=%v, no response: %w", upload, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("upload=%v, response cut: %w", upload, err)
	}
	if res.StatusCode != 200 || string(answer) != hashed(body) {
		return fmt.Errorf("upload=%v: %s %q", upload, res.Status, answer)
	}
	if res.Close {
		c.close()
	}
	return nil
}

func hashed(body string) string {
	h := sha256.Sum256([]byte(body))
	return hex.EncodeToString(h[:])
}

// hashing answers with the hash of the request's body.
func hashing(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client sees it
	}
	_, _ = io.WriteString(w, hashed(string(body)))
}

// hashBackend is a backend for a load.
func hashBackend(t *testing.T) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(hashing))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
