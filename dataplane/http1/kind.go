package http1

// Kind tells apart the fields that a proxy treats specially, so that a name is
// looked at once. Names that only the endpoints care for are Unknown.
type Kind uint8

// The kinds. A kind stands for one name unless its comment says otherwise.
const (
	Unknown Kind = iota

	// Hop-by-hop (RFC 9110 section 7.6.1 and those that act like it): Drop is
	// always set.
	Connection
	TransferEncoding
	KeepAlive
	ProxyConnection
	TE
	Upgrade
	HTTP2Settings
	ProxyAuthenticate // also Proxy-Authentication-Info
	ProxyAuthorization

	// End to end: Connection cannot remove them, trailers cannot hold them.
	Host
	ContentLength
	Expect
	Trailer
	MaxForwards
	Forwarded
	Via
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedPrefix
	XForwardedProto
	XForwardedServer
	XForwardedOther // any other name that starts with X-Forwarded
	XRealIP
	XRequestID
	XFerrumAttempt
	UserAgent
	Server
	Date
	RetryAfter
	Credential  // Authorization, WWW-Authenticate, Authentication-Info, Cookie, Set-Cookie
	Content     // any Content-* but Content-Length
	Conditional // any If-*
	Control     // Age, Cache-Control, Expires, Location, Origin, Pragma, Range, Vary, Warning

	kindCount
)

// hopByHop is the kinds that belong to one connection.
const hopByHop KindSet = 1<<Connection | 1<<TransferEncoding | 1<<KeepAlive | 1<<ProxyConnection | 1<<TE |
	1<<Upgrade | 1<<HTTP2Settings | 1<<ProxyAuthenticate | 1<<ProxyAuthorization

// framing is the kinds that a head's parser has to look into.
const framing = hopByHop | 1<<Host | 1<<ContentLength | 1<<Expect | 1<<Trailer

// KindSet is a set of kinds; its zero value is empty.
type KindSet uint64

// Kinds returns the set of the given kinds.
func Kinds(kinds ...Kind) KindSet {
	var s KindSet
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in the set.
func (s KindSet) Has(k Kind) bool { return s>>k&1 != 0 }

// names gives the kinds of single names.
var names = []struct {
	name string
	kind Kind
}{
	{"connection", Connection},
	{"transfer-encoding", TransferEncoding},
	{"keep-alive", KeepAlive},
	{"proxy-connection", ProxyConnection},
	{"te", TE},
	{"upgrade", Upgrade},
	{"http2-settings", HTTP2Settings},
	{"proxy-authenticate", ProxyAuthenticate},
	{"proxy-authentication-info", ProxyAuthenticate},
	{"proxy-authorization", ProxyAuthorization},
	{"host", Host},
	{"content-length", ContentLength},
	{"expect", Expect},
	{"trailer", Trailer},
	{"max-forwards", MaxForwards},
	{"forwarded", Forwarded},
	{"via", Via},
	{"x-forwarded-for", XForwardedFor},
	{"x-forwarded-host", XForwardedHost},
	{"x-forwarded-port", XForwardedPort},
	{"x-forwarded-prefix", XForwardedPrefix},
	{"x-forwarded-proto", XForwardedProto},
	{"x-forwarded-server", XForwardedServer},
	{"x-real-ip", XRealIP},
	{"x-request-id", XRequestID},
	{"x-ferrum-attempt", XFerrumAttempt},
	{"user-agent", UserAgent},
	{"server", Server},
	{"date", Date},
	{"retry-after", RetryAfter},
	{"authorization", Credential},
	{"authentication-info", Credential},
	{"www-authenticate", Credential},
	{"cookie", Credential},
	{"set-cookie", Credential},
	{"age", Control},
	{"cache-control", Control},
	{"expires", Control},
	{"location", Control},
	{"origin", Control},
	{"pragma", Control},
	{"range", Control},
	{"vary", Control},
	{"warning", Control},
}

// families gives the kinds of all names that start alike.
var families = []struct {
	prefix string
	kind   Kind
}{
	{"content-", Content},
	{"if-", Conditional},
	{"x-forwarded", XForwardedOther},
}

// kindSlots is a hash table of names without collisions: the index of each name
// plus one. kindHash was chosen for that; a test looks for collisions.
var kindSlots = func() (t [256]uint8) {
	for i, e := range names {
		t[kindHash([]byte(e.name))] = uint8(i + 1)
	}
	return t
}()

// kindHash hashes a name that is not empty, ignoring letter case. The factors
// were searched for.
func kindHash(name []byte) uint8 {
	n := len(name)
	return uint8(n) ^ (name[0]|0x20)*9 ^ (name[n-1]|0x20)*47 ^ (name[n*3/4] | 0x20)
}

// kindOf returns the kind of a field name, which is a token, ignoring letter
// case.
func kindOf(name []byte) Kind {
	if at := kindSlots[kindHash(name)]; at != 0 {
		if e := &names[at-1]; len(name) == len(e.name) && foldEqual(name, e.name) {
			return e.kind
		}
	}
	switch name[0] | 0x20 {
	case 'c', 'i', 'x':
		for i := range families {
			f := &families[i]
			if len(name) >= len(f.prefix) && foldEqual(name[:len(f.prefix)], f.prefix) {
				return f.kind
			}
		}
	}
	return Unknown
}

// aliasOf returns the kind of the field that a backend may mistake an oddly
// spelled name for: CGI and its heirs turn every byte but letters and digits
// into '_', so that X.Real.IP becomes the same variable as X-Real-IP.
func aliasOf(name []byte) Kind {
	var plain [32]byte // longer than every name of ours
	if len(name) > len(plain) {
		return Unknown
	}
	for i, c := range name {
		if tokenClass[c] != tokenPlain {
			c = '-'
		}
		plain[i] = c
	}
	return kindOf(plain[:len(name)])
}
