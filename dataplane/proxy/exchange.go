package proxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// exchange is the life of one request. The phases fill it in from top to
// bottom; end empties it.
type exchange struct {
	p       *Proxy
	req     http1.Request
	res     http1.Response
	out     []byte // what is written next, see setOut
	gen     [requestIDLen]byte
	rec     Record
	outHeld int64 // bytes of out that count as held
	// sealed is room for the cookie of a session.
	sealed sessionText
	// ip is room for the key of a rate limit.
	ip [16]byte

	// The upload's side of things: see startUpload.
	uploaded  chan struct{} // the goroutine's last word
	uploadEnd atomic.Int64  // when it ended, in ns since start; 0: not yet
	bodyRead  atomic.Bool   // the client has sent the body whole
	continued atomic.Int64  // when the client was told to send the body, in ns since start; 0: not

	liveliness

	tried upstream.Tried
	keep  keep

	state
}

// state is what an exchange forgets when it ends.
type state struct {
	c    *client
	addr netip.AddrPort // the client of the request: the connection's, or whom that speaks for

	// receive
	reqBody  http1.Body
	id       []byte // the request's id: a view, or of gen
	start    time.Time
	parsed   bool // the head was looked at before receive
	parseErr error
	now      time.Time // the last look at the clock

	// match
	query    route.Request
	rule     *rule
	series   Series
	deadline time.Time // of the rule's request timeout; zero: none

	begun, ended bool // as which series counts the request

	// admit
	inRule     *limit.InFlight // counts the request for its rule; nil: nothing does
	rate       *rateLimit      // that the client is told of; nil: none
	allowance  limit.Verdict   // of rate
	wouldLimit bool            // a rate limit in dry run would have refused it

	// attempts
	retries
	inPool   *limit.Breaker // that the request is inside of; nil: of none
	leg      *leg
	turn     upstream.Turn // its Endpoint is nil until one was picked
	up       *http1.Conn
	upMade   time.Time // when up was established
	sentAt   time.Time
	greet    bool // the client is told of its session
	attempts int
	inLane   bool // it is one attempt of another exchange, without a client: see race
	headed   bool // the endpoint has answered
	connect  time.Duration
	header   time.Duration
	until    time.Time // when the attempt or the request has taken too long; zero: never
	late     Reason    // which of them

	// upload, when the body is not sent together with the head
	uploading   bool
	uploadErr   Reason // ReasonOK, or why the client's side failed
	uploadSound bool   // the body was sent whole

	// respond
	resBody    http1.Body
	status     int // that was written to the client; 0: nothing yet
	closing    bool
	parts      bool // the connection closes with the last byte of the answer
	endless    bool // only the end of the connection says where the answer ends
	upSpent    bool // the upstream connection cannot be used again
	detail     string
	failStatus int // overrides the reason's status
}

// serve is the spine: it takes one request from its first byte to its end and
// returns when that was, and whether the connection may be used for another.
func (ex *exchange) serve() (end time.Time, keep bool) {
	reason := ex.receive()
	if reason == ReasonOK {
		reason = ex.match()
	}
	if reason == ReasonOK {
		reason = ex.admit()
	}
	if reason == ReasonOK {
		ex.prepare()
		reason = ex.forward()
	}
	if reason == ReasonOK {
		reason = ex.respond()
	}
	return ex.end(reason)
}

// begin makes the exchange ready for a request whose first bytes are there.
func (ex *exchange) begin(c *client) {
	ex.c, ex.addr = c, c.peer
	ex.start = time.Now()
	ex.now = ex.start
	ex.series = ex.p.unmatched
	ex.reqBody.Reset(&c.Conn, 0, false, false, 0)
	ex.closing = c.life.Draining()
	ex.setOut(ex.out) // one that is used again may be large
}

// tick is when a wait for the upstream has to look up: at the given deadline or
// the attempt's, or to see whether the client is still there.
func (ex *exchange) tick(deadline time.Time) time.Time {
	t := ex.now.Add(clientCheck)
	if !deadline.IsZero() && deadline.Before(t) {
		t = deadline
	}
	if !ex.until.IsZero() && ex.until.Before(t) {
		t = ex.until
	}
	return t
}

// looked is called when a tick has passed: it returns the reason to give up, or
// ReasonOK to go on waiting.
func (ex *exchange) looked(deadline time.Time, late Reason) Reason {
	ex.now = time.Now()
	switch {
	case !ex.until.IsZero() && !ex.now.Before(ex.until):
		return ex.late
	case !deadline.IsZero() && !ex.now.Before(deadline):
		return late
	case ex.clientLeft():
		return ReasonClientGone
	}
	return ReasonOK
}

// clientLeft reports whether the client has gone. One that says that it sends no
// more counts as gone, save while its body is not read: its end is behind that, and
// found by the upload.
func (ex *exchange) clientLeft() bool {
	sending := ex.uploading && !ex.bodyRead.Load()
	if !ex.uploading { // else the upload has the body
		sending = !ex.reqBody.Done()
	}
	switch {
	case ex.inLane: // of which the race looks
		return false
	case sending:
		return ex.c.Broken()
	}
	return !ex.c.Alive()
}
