package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// session is the compiled session persistence of a rule: a cookie names the leg
// and the endpoint that a client has. It is sealed with AES-256-GCM, so that
// clients can neither choose an endpoint nor learn addresses of the cluster; its
// nonces are random, and one is used for each session that begins. A cookie that
// does not open is as good as none.
//
// The cookie is passed on to the endpoint like any other: to cut it out would
// mean to write the Cookie field anew in each request.
type session struct {
	cookie   string
	lifetime time.Duration
	aead     cipher.AEAD
	setField string // the Set-Cookie field before the value
	tail     string // and behind it
}

// The sealed text: when the session began in Unix seconds (8 bytes), the leg's
// name (8), the address (4 or 16) and the port (2).
const (
	sessionHead = 16
	maxSession  = sessionHead + 16 + 2
	// sessionOverhead is the nonce and the tag.
	sessionOverhead = 12 + 16
)

// sessionText is room for a cookie's value, sealed and opened.
type sessionText [maxSession + sessionOverhead]byte

// compileSession returns nil when there is none.
func compileSession(s *plan.Session) *session {
	if s.Cookie == "" {
		return nil
	}
	block, err := aes.NewCipher(s.Key[:])
	if err != nil {
		panic("proxy: " + err.Error()) // a key of 32 bytes is a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("proxy: " + err.Error()) // AES has the block size of GCM
	}
	c := &session{
		cookie: s.Cookie, lifetime: s.Lifetime, aead: aead,
		setField: "Set-Cookie: " + s.Cookie + "=", tail: "; Path=/; HttpOnly; SameSite=Lax\r\n",
	}
	if s.Lifetime > 0 {
		c.tail = "; Path=/; HttpOnly; SameSite=Lax; Max-Age=" + strconv.FormatInt(int64(s.Lifetime/time.Second), 10) + "\r\n"
	}
	return c
}

// legName stands for a Service port. It leaves the policy out: an edit of that
// ends no session.
func legName(k *plan.PoolKey) uint64 {
	return upstream.Hash([]byte(k.Namespace + "/" + k.Service + "/" + strconv.Itoa(int(k.Port))))
}

// resume takes the endpoint of the request's session, if it has one that lives
// and serves. It returns the place of the session's leg, which a session that has
// lost its endpoint stays with, or -1; and a reason when its pool does not let the
// request in.
func (ex *exchange) resume() (leg int, reason Reason) {
	s := ex.rule.session
	value, ok := cookie(&ex.req, s.cookie)
	if !ok {
		return -1, ReasonOK
	}
	name, addr, ok := s.open(value, &ex.sealed, ex.now)
	if !ok {
		return -1, ReasonOK
	}
	for i := range ex.rule.legs {
		l := &ex.rule.legs[i]
		if l.name == name && l.weight > 0 && l.pool != nil {
			ex.leg = l
			if reason = ex.enterPool(l); reason == ReasonOK {
				ex.turn = l.pool.TakeAt(addr)
			}
			return i, reason
		}
	}
	return -1, ReasonOK
}

// open reads a cookie's value.
func (s *session) open(value []byte, buf *sessionText, now time.Time) (leg uint64, addr netip.AddrPort, ok bool) {
	if base64.RawURLEncoding.DecodedLen(len(value)) > len(buf) {
		return 0, addr, false
	}
	n, err := base64.RawURLEncoding.Decode(buf[:], value)
	if err != nil {
		return 0, addr, false
	}
	text, err := s.aead.Open(buf[:0], nil, buf[:n], nil)
	if err != nil || len(text) < sessionHead+4+2 {
		return 0, addr, false
	}
	began := time.Unix(int64(binary.BigEndian.Uint64(text)), 0)
	if s.lifetime > 0 && now.Sub(began) >= s.lifetime {
		return 0, addr, false
	}
	ip, ok := netip.AddrFromSlice(text[sessionHead : len(text)-2])
	port := binary.BigEndian.Uint16(text[len(text)-2:])
	return binary.BigEndian.Uint64(text[8:]), netip.AddrPortFrom(ip, port), ok
}

// seal appends the value of a cookie for a session that begins now.
func (s *session) seal(out []byte, buf *sessionText, leg uint64, addr netip.AddrPort, now time.Time) []byte {
	var text [maxSession]byte
	t := binary.BigEndian.AppendUint64(text[:0], uint64(now.Unix()))
	t = binary.BigEndian.AppendUint64(t, leg)
	if addr.Addr().Is4() {
		ip := addr.Addr().As4()
		t = append(t, ip[:]...)
	} else {
		ip := addr.Addr().As16()
		t = append(t, ip[:]...)
	}
	t = binary.BigEndian.AppendUint16(t, addr.Port())
	return base64.RawURLEncoding.AppendEncode(out, s.aead.Seal(buf[:0], nil, t, nil))
}

// appendSession tells the client of the session that begins with this response.
func (ex *exchange) appendSession(out []byte) []byte {
	if !ex.greet {
		return out
	}
	s := ex.rule.session
	out = append(out, s.setField...)
	out = s.seal(out, &ex.sealed, ex.leg.name, ex.turn.Endpoint.Addr, ex.now)
	return append(out, s.tail...)
}
