package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

const (
	// requestIDLen is the length of an id of ours: 128 random bits in hex.
	requestIDLen = 32
	// maxRequestID bounds an id that is taken over from the client.
	maxRequestID = 128
	// maxForwardsDigits: a longer Max-Forwards is none.
	maxForwardsDigits = 9
)

// ours are the fields of a request that the proxy writes itself or that would
// let the client speak for it, in every spelling.
var ours = http1.Kinds(http1.Host, http1.Connection, http1.ContentLength, http1.TransferEncoding, http1.Expect, http1.TE,
	http1.XForwardedFor, http1.XForwardedProto, http1.XForwardedHost, http1.XForwardedPort,
	http1.XForwardedServer, http1.XForwardedPrefix, http1.XForwardedOther, http1.Forwarded, http1.XRealIP,
	http1.XRequestID, http1.XFerrumAttempt)

// prepare writes the head for the backend into ex.out, and the body behind it
// as far as it is here.
func (ex *exchange) prepare() {
	req := &ex.req
	out := http1.AppendRequestLine(ex.out[:0], req.Method, req.Target)
	out = http1.AppendField(out, "Host", req.Authority)
	skip := ours
	forwards, counted := ex.forwards()
	if counted {
		skip |= http1.Kinds(http1.MaxForwards)
	}
	out = http1.AppendFields(out, req.Fields, skip)
	if counted {
		out = append(out, "Max-Forwards: "...)
		out = append(http1.AppendInt(out, forwards-1), "\r\n"...)
	}
	out = ex.appendForwarded(out)
	out = http1.AppendField(out, "X-Request-ID", ex.id)
	if req.AcceptTrailers {
		out = append(out, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	if req.Upgrade != nil {
		out = append(out, "Connection: Upgrade\r\n"...)
		out = http1.AppendField(out, "Upgrade", req.Upgrade)
	}
	switch {
	case req.Chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case req.ContentLength >= 0:
		out = append(out, "Content-Length: "...)
		out = http1.AppendInt(out, req.ContentLength)
		out = append(out, "\r\n"...)
	}
	if req.Expect100 {
		out = append(out, "Expect: 100-continue\r\n"...)
	}
	ex.headEnd = len(out)
	ex.setOut(append(out, "\r\n"...))
}

// forwards returns how often an OPTIONS may still be forwarded, which its
// Max-Forwards says (RFC 9110 section 7.6.2). ok is false where there is no such
// bound; then the field, if it is there, goes on as it is.
func (ex *exchange) forwards() (n int64, ok bool) {
	if string(ex.req.Method) != "OPTIONS" {
		return 0, false
	}
	digits := ex.said(http1.MaxForwards)
	if len(digits) == 0 || len(digits) > maxForwardsDigits {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int64(d-'0')
	}
	return n, true
}

// requestID takes the client's request id over if it is sane, else makes one.
func (ex *exchange) requestID() {
	for i := range ex.req.Fields {
		if f := &ex.req.Fields[i]; f.Kind == http1.XRequestID && saneID(f.Value) {
			ex.id = f.Value
			return
		}
	}
	ex.makeID()
}

// makeID gives the request an id of ours.
func (ex *exchange) makeID() {
	var raw [requestIDLen / 2]byte
	binary.NativeEndian.PutUint64(raw[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(raw[8:], rand.Uint64())
	hex.Encode(ex.gen[:], raw[:])
	ex.id = ex.gen[:]
}

// saneID reports whether an id can go into headers and logs as it is.
func saneID(id []byte) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	for _, b := range id {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '-', b == '_', b == '.', b == ':', b == '=', b == '+', b == '/', b == '@':
		default:
			return false
		}
	}
	return true
}
