package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// decoy is what bodies are made of: whoever takes a part of one for a message finds
// the end of a body, and a request that nobody sent.
const decoy = "0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + shopHost + "\r\nX-Token: smuggled\r\n\r\n"

// decoyAnswer is the same for the bodies of answers.
const decoyAnswer = "0\r\n\r\nHTTP/1.1 200 OK\r\nX-Answer: smuggled\r\nContent-Length: 0\r\n\r\n"

// message is a request that a client sends.
type message struct {
	token, method string
	raw, body     string
	tooLarge      bool // by the rule's cap
	cut           int  // how much of raw is sent; less than all: the client goes
}

// messages is clients and endpoints that look whether each message is read as it was
// sent, and by whom.
type messages struct {
	*bed
	cap, resCap int64

	mu   sync.Mutex
	sent map[string]*message // by token
	got  map[string]int      // how often what was seen
}

func (x *messages) count(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got[what]++
}

// around is a size that may be at a cap, or next to it.
func around(most int64) int {
	if rand.IntN(2) == 0 {
		return max(int(most)+rand.IntN(3)-1, 0)
	}
	return rand.IntN(2*int(most) + 2)
}

// inChunks is a body in chunks of any size.
func inChunks(body string, more ...string) string {
	var b strings.Builder
	for body != "" {
		n := min(1+rand.IntN([]int{5, 1000, 100_000}[rand.IntN(3)]), len(body))
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, more[rand.IntN(len(more))], body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n"
}

// message makes a request, of which the endpoints know from then on.
func (x *messages) message() *message {
	m := &message{method: []string{"GET", "HEAD", "POST", "POST", "PUT"}[rand.IntN(5)]}
	x.mu.Lock()
	m.token = fmt.Sprintf("t%d", len(x.sent))
	x.sent[m.token] = m
	x.mu.Unlock()
	framing := ""
	if m.method == "POST" || m.method == "PUT" {
		from, n := rand.IntN(len(decoy)), around(x.cap)
		m.body = strings.Repeat(decoy, n/len(decoy)+2)[from:][:n]
		m.tooLarge = int64(n) > x.cap
		if rand.IntN(4) == 0 {
			framing = "Expect: 100-continue\r\n"
		}
	}
	version, payload := 1, m.body
	switch rand.IntN(4) {
	case 0:
		version = 0
		framing += fmt.Sprintf("Connection: keep-alive\r\nContent-Length: %d\r\n", len(m.body))
	case 1:
		framing += fmt.Sprintf("Content-Length: %d\r\n", len(m.body))
	default:
		if m.body != "" {
			framing += "Transfer-Encoding: chunked\r\n"
			payload = inChunks(m.body, "", "", ";ext=1") + []string{"", "X-Trailer: x\r\n"}[rand.IntN(2)] + "\r\n"
		}
	}
	m.raw = fmt.Sprintf("%s /%s HTTP/1.%d\r\n%s\r\nX-Token: %s\r\n%s\r\n%s", m.method, m.token, version, shopHost, m.token, framing, payload)
	m.cut = len(m.raw)
	if rand.IntN(15) == 0 {
		m.cut = rand.IntN(len(m.raw))
	}
	return m
}

// inPieces writes s in pieces that end anywhere, often next to its end.
func inPieces(w io.Writer, s string) {
	for s != "" {
		n := len(s)
		switch rand.IntN(4) {
		case 0:
			n = max(n-rand.IntN(30), 1)
		case 1:
			n = 1 + rand.IntN(n)
		case 2:
			n = min(1+rand.IntN(200), n)
		}
		if _, err := io.WriteString(w, s[:n]); err != nil {
			return
		}
		if s = s[n:]; rand.IntN(4) == 0 {
			time.Sleep(rand.N(30 * time.Millisecond))
		}
		if rand.IntN(200) == 0 {
			time.Sleep(1200 * time.Millisecond)
		}
	}
}

// client sends requests on one connection, some before the last one is answered, and
// takes the answers.
func (x *messages) client(requests int) {
	conn, err := x.net.Dial(x.front)
	if err != nil {
		x.t.Error(err)
		return
	}
	c := &peer{t: x.t, Conn: conn.(*memnet.Conn), r: bufio.NewReader(conn)}
	asked, answered := make(chan *message, requests), make(chan struct{}, requests)
	var left atomic.Bool
	go func() {
		defer close(asked)
		pending := 0
		for range requests {
			m := x.message()
			asked <- m
			inPieces(c, m.raw[:m.cut])
			if m.cut < len(m.raw) {
				left.Store(true)
				if rand.IntN(2) == 0 {
					_ = c.CloseWrite()
				} else {
					_ = c.Close()
				}
				return
			}
			for pending++; pending > 0 && rand.IntN(4) > 0; pending-- {
				<-answered
			}
		}
	}()
	ends := false
	for m := range asked {
		if !ends {
			ends = !x.answer(c, m, &left)
		}
		if ends {
			_ = c.Close()
		}
		answered <- struct{}{}
	}
	_ = c.Close()
}

// answer reads the answer to a request; false: it was the last one on the connection.
func (x *messages) answer(c *peer, m *message, left *atomic.Bool) (more bool) {
	for {
		res, err := http.ReadResponse(c.r, &http.Request{Method: m.method})
		if err != nil {
			if !left.Load() && !errors.Is(err, syscall.ECONNRESET) { // by which an answer is cut
				x.t.Errorf("%s %s got no answer on a connection that goes on: %v", m.method, m.token, err)
			}
			return false
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		switch of := res.Header.Get("X-Answer"); {
		case of == "" && (res.Header.Get("Proxy-Status") == "" || res.StatusCode == 400):
			x.t.Errorf("%s %s got %d %v %.100q", m.method, m.token, res.StatusCode, res.Header, body)
		case of == "":
			x.count(fmt.Sprint("proxy ", res.StatusCode))
		case of != m.token, len(body) >= 10 && !strings.HasPrefix(string(body), m.token+" "):
			x.t.Errorf("%s got the answer to %s: %.100q", m.token, of, body)
		}
		if err == nil && !res.Close {
			x.count("kept client")
		}
		return err == nil && !res.Close
	}
}

// isCut reports whether reading failed because the connection has ended, of which
// net/http says that a trailer is cut or too long, or that a body is closed.
func isCut(err error) bool {
	var ne *net.OpError
	return strings.HasPrefix(err.Error(), "http: ") && strings.Contains(err.Error(), "trailer") || err == http.ErrBodyReadAfterClose || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &ne)
}

// headComes waits for a head; false: the connection ends before the head does, of which
// net/http would say that it is malformed.
func headComes(r *bufio.Reader) bool {
	for n := 1; ; n++ {
		b, err := r.Peek(n)
		if err != nil || bytes.HasSuffix(b, []byte("\r\n\r\n")) {
			return err == nil || err == bufio.ErrBufferFull
		}
	}
}

// serve is an endpoint, which answers before, while or after it reads the body, and
// goes on when it has both.
func (x *messages) serve(c net.Conn, r *bufio.Reader) {
	for kept := false; headComes(r); kept = true {
		req, err := http.ReadRequest(r)
		if err != nil {
			x.t.Errorf("an endpoint got what is no request: %v", err)
			return
		}
		token := req.Header.Get("X-Token")
		x.mu.Lock()
		m := x.sent[token]
		x.mu.Unlock()
		if m == nil || req.URL.Path != "/"+token || req.Method != m.method {
			x.t.Errorf("an endpoint got %s %s with the token %q, which nobody sent", req.Method, req.URL, token)
			return
		}
		if kept {
			x.count("kept endpoint")
		}
		if !x.exchange(c, req, m) {
			return
		}
	}
}

// exchange reads a body and answers.
func (x *messages) exchange(c net.Conn, req *http.Request, m *message) (more bool) {
	var got strings.Builder
	answer, more := x.answerTo(m)
	said := []int{0, rand.IntN(len(answer)), len(answer)}[rand.IntN(3)]
	if req.Header.Get("Expect") != "" && rand.IntN(2) == 0 {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if rand.IntN(2) == 0 {
		if _, err := io.CopyN(&got, req.Body, int64(rand.IntN(len(m.body)+1))); err != nil && err != io.EOF {
			return false
		}
	}
	switch rand.IntN(20) {
	case 0:
		return false
	case 1:
		time.Sleep(rand.N(3 * time.Second))
	}
	inPieces(c, answer[:said])
	switch rand.IntN(10) {
	case 0:
		return false
	case 1:
		time.Sleep(rand.N(3 * time.Second))
	}
	_, err := io.Copy(&got, req.Body)
	switch {
	case !strings.HasPrefix(m.body, got.String()), err == nil && got.Len() < len(m.body):
		x.t.Errorf("an endpoint took %d bytes for the %d of %s, err: %v", got.Len(), len(m.body), m.token, err)
	case err == nil && m.tooLarge:
		x.t.Errorf("a body of %d bytes passed the cap of %d", len(m.body), x.cap)
	case err != nil && !isCut(err):
		x.t.Errorf("inside the body of %s: %v", m.token, err)
	}
	if err != nil {
		return false
	}
	if said == len(answer) && m.body != "" && more {
		x.count("early")
	}
	inPieces(c, answer[said:])
	return more
}

// answerTo is an answer to a request, and whether the connection goes on behind it.
func (x *messages) answerTo(m *message) (answer string, more bool) {
	status := []int{200, 200, 200, 200, 204, 304, 409, 503}[rand.IntN(8)]
	n := around(x.resCap)
	body := m.token + " " + strings.Repeat(decoyAnswer, n/len(decoyAnswer)+1)[:n]
	interim := []string{"", "", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"}[rand.IntN(4)]
	head := fmt.Sprintf("%sHTTP/1.1 %d x\r\nX-Answer: %s\r\n", interim, status, m.token)
	framed := ""
	more = true
	switch rand.IntN(6) {
	case 0:
		more = false
		head += "Connection: close\r\n\r\n"
		framed = body
	case 1, 2:
		if status == 204 {
			head += "\r\n"
			break
		}
		head += "Transfer-Encoding: chunked\r\n\r\n"
		framed = inChunks(body, "", ";x") + []string{"", "X-Trailer: x\r\n"}[rand.IntN(2)] + "\r\n"
	default:
		if status != 204 {
			head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		head += "\r\n"
		framed = body
	}
	if m.method == "HEAD" || status == 204 || status == 304 {
		framed = ""
	}
	return head + framed, more
}

// plan is one of many.
func (x *messages) plan(addrs []string) plan.Plan {
	return edit(onePool(addrs...), func(r *plan.Rule, p *plan.Policy) {
		r.Limits = plan.Limits{MaxRequestBodyBytes: x.cap}
		if rand.IntN(2) == 0 {
			r.Limits.MaxResponseBodyBytes = x.resCap
		}
		if rand.IntN(2) == 0 {
			r.Limits.MinRequestBodyRate = 100
		}
		r.Timeouts = plan.Timeouts{Connect: time.Second, ResponseHeader: 2 * time.Second, RequestBodyIdle: time.Second, ResponseBodyIdle: time.Second}
		if rand.IntN(2) == 0 {
			r.Timeouts.BackendRequest = rand.N(time.Second)
		}
		if rand.IntN(2) == 0 {
			r.Retry = plan.Retry{
				Attempts: 3, On: plan.RetryReset | plan.RetryCodes, Backoff: 20 * time.Millisecond, MaxBackoff: time.Second,
				MaxBodyBytes: int64(around(x.cap)), Methods: plan.RetryAny,
			}
			r.Retry.Codes.Add(503, 504)
			if rand.IntN(2) == 0 {
				r.Retry.HedgeAfter = 20 * time.Millisecond
			}
		}
		p.RetryBudget.Percent = 100
		p.LoadBalancing.Balancer = plan.RoundRobin
	})
}

// A chunked body that passed its cap in its last piece was taken for whole, and the
// rest of it was looked for in the next request of the connection to the endpoint,
// whoever's that was. So a connection goes on only behind messages that are read and
// written whole: no endpoint sees a request that nobody sent, nor a body that is not
// its request's, and no client gets another's answer, or none on a connection that
// was said to go on.
func TestNoMessageIsTakenForAPartOfAnother(t *testing.T) {
	all := map[string]int{}
	for range 40 {
		inBubble(t, func(t *testing.T, b *bed) {
			x := &messages{bed: b, sent: map[string]*message{}, got: all}
			x.cap, x.resCap = []int64{10, 300, 5000, 70_000, 150_000}[rand.IntN(5)], []int64{10, 5000, 100_000}[rand.IntN(3)]
			b.restart(func(c *proxy.Config) {
				c.KeepBytes = 1 << 20
				c.Clients = proxy.ClientLimits{HeaderTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, KeepAliveTimeout: time.Minute}
			})
			for _, addr := range three {
				b.backend(addr, x.serve)
			}
			b.apply(x.plan(three))
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for range 3 {
						x.client(10)
					}
				})
			}
			clients.Wait()
			time.Sleep(time.Minute) // the endpoints are done
		})
	}
	t.Log(all)
	for _, what := range []string{"kept client", "kept endpoint", "early", "proxy 413", "proxy 502"} {
		if all[what] < 10 {
			t.Errorf("%s: only %d", what, all[what])
		}
	}
}
