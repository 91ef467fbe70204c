package server

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Refusal is why a connection was turned away.
type Refusal uint8

// The refusals. The first two are answered, with 503; after a bad header nobody
// knows what the peer speaks.
const (
	TooManyConnections Refusal = iota // Config.MaxConnections
	TooManyOfAddress                  // Config.MaxConnectionsPerIP
	BadHeader                         // the PROXY header is malformed or cut
	LateHeader                        // it was not there in time
)

// Refusals are the names of the refusals, as in metrics and logs.
var Refusals = [...]string{
	TooManyConnections: "max_connections",
	TooManyOfAddress:   "max_connections_per_ip",
	BadHeader:          "proxy_header",
	LateHeader:         "proxy_header_timeout",
}

func (r Refusal) String() string { return Refusals[r] }

const (
	// Some connections are kept after their refusal, for lingerTime and
	// lingerBytes at most, until the client has read it: closing at once may
	// make the kernel reset the connection and take the answer with it (RFC 9112
	// section 9.6). They are an eighth of the connections that are allowed,
	// within these bounds; others are closed at once.
	minLingering = 4
	maxLingering = 64
	lingerTime   = time.Second
	lingerBytes  = 64 << 10
	// quiet is how long a refusal is not logged again.
	quiet = 10 * time.Second
)

// refuser is what turning connections away needs.
type refuser struct {
	log     logr.Logger
	slots   chan struct{}
	answers [len(Refusals)][]byte // nil: closed without an answer

	mu     sync.Mutex
	logged [len(Refusals)]time.Time // when last
	silent [len(Refusals)]int       // how many since then
}

func (r *refuser) init(c Config) {
	r.log = c.Log
	lingering := maxLingering
	if c.MaxConnections > 0 {
		lingering = min(max(c.MaxConnections/8, minLingering), maxLingering)
	}
	r.slots = make(chan struct{}, lingering)
	for _, why := range []Refusal{TooManyConnections, TooManyOfAddress} {
		body := "503 " + why.String() + "\n"
		r.answers[why] = []byte("HTTP/1.1 503 Service Unavailable\r\n" +
			"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n" +
			"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" +
			fmt.Sprintf("Proxy-Status: ferrum; details=%q\r\n", why.String()) +
			"Retry-After: 1\r\nConnection: close\r\n\r\n" + body)
	}
}

// turnAway closes a connection that is not served, tells the client why if it
// can be told, and counts it. It does not block.
func (s *Server) turnAway(c *conn, why Refusal) {
	s.Stats.Refused[why].Add(1)
	r := &s.refuser
	r.note(c, why)
	answer := r.answers[why]
	if answer == nil {
		_ = c.nc.Close() // it is being dropped
		return
	}
	select {
	case r.slots <- struct{}{}:
		go func() {
			refuse(c.nc, answer, lingerBytes)
			<-r.slots
		}()
	default:
		refuse(c.nc, answer, 0)
	}
}

// refuse answers, waits until the client has closed or sent as many bytes, and
// closes. The answer fits into what the kernel buffers for a new connection, so
// that nothing waits for the client when no bytes are to be waited for.
func refuse(nc net.Conn, answer []byte, bytes int) {
	defer nc.Close()
	if nc.SetDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	if _, err := nc.Write(answer); err != nil || bytes == 0 {
		return
	}
	if hc, ok := nc.(interface{ CloseWrite() error }); ok && hc.CloseWrite() != nil {
		return
	}
	var scratch [512]byte
	for bytes > 0 {
		n, err := nc.Read(scratch[:])
		if err != nil {
			return
		}
		bytes -= n
	}
}

// note logs a refusal, unless one of its kind was logged a short while ago.
func (r *refuser) note(c *conn, why Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := c.peer.Since; r.logged[why].IsZero() || now.Sub(r.logged[why]) >= quiet {
		r.log.Info("connection refused", "reason", why.String(), "client", c.peer.Addr.String(), "before", r.silent[why])
		r.logged[why], r.silent[why] = now, 0
		return
	}
	r.silent[why]++
}
