package proxy

import (
	"bytes"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
)

// A backend is told who asked, and how, by RFC 7239 and its forerunners:
//
//	field              from a client              from a trusted proxy
//	X-Forwarded-For    the peer                   what it says, then the peer
//	X-Real-IP          the peer                   the client found, see findClient
//	X-Forwarded-Proto  http                       what it says, if http or https
//	X-Forwarded-Host   the request's authority    what it says, if an authority
//	X-Forwarded-Port   absent                     what it says, if a port
//	Forwarded          an element for the peer    what it says, then that element
//	X-Forwarded-*      absent                     absent
//
// Other spellings of these names, such as X_Real_IP, are not forwarded whoever
// sends them. What a trusted proxy says twice, where once is meant, it does not
// say.

// Prefixes are ranges of addresses. A few are expected: they are compared one by
// one.
type Prefixes []netip.Prefix

// Has reports whether a is in one of the ranges.
func (p Prefixes) Has(a netip.Addr) bool {
	for _, r := range p {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// maxForwarded bounds what is passed on of a trusted proxy's X-Forwarded-For,
// whose oldest entries go first, and of its Forwarded, which goes whole. Bytes.
const maxForwarded = 4 << 10

// appendPeerNames appends what a connection tells of its peer. For a trusted
// proxy: its element of Forwarded, without the host. For everybody
// else: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, and Forwarded to the same
// point.
func appendPeerNames(out []byte, peer netip.Addr, trusted bool) []byte {
	if !trusted {
		out = append(appendAddr(append(out, "X-Forwarded-For: "...), peer), "\r\n"...)
		if peer.IsValid() {
			out = append(appendAddr(append(out, "X-Real-IP: "...), peer), "\r\n"...)
		}
		out = append(out, "X-Forwarded-Proto: http\r\nForwarded: "...)
	}
	out = append(out, "for="...)
	if peer.Is6() {
		out = append(appendAddr(append(out, `"[`...), peer), `]"`...)
	} else {
		out = appendAddr(out, peer)
	}
	return append(out, ";proto=http"...)
}

func appendAddr(out []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(out, "unknown"...)
	}
	return a.AppendTo(out)
}

// appendForwarded appends the fields of the table above.
func (ex *exchange) appendForwarded(out []byte) []byte {
	c := ex.c
	host := ex.req.Authority
	if c.trusted {
		out = ex.appendBelieved(out)
		if h := ex.said(http1.XForwardedHost); http1.IsAuthority(h) {
			host = h
		}
	} else {
		out = appendPeerNames(out, c.peer.Addr(), false)
	}
	out = appendHostParameter(out, ex.req.Authority)
	out = append(out, "\r\n"...)
	if len(host) > 0 {
		out = http1.AppendField(out, "X-Forwarded-Host", host)
	}
	return out
}

// appendHostParameter ends an element of Forwarded with the request's authority,
// if it has one.
func appendHostParameter(out, authority []byte) []byte {
	if len(authority) == 0 {
		return out
	}
	out = append(out, ";host="...)
	// A port or an IPv6 literal is not a token and has to be quoted.
	if bytes.IndexByte(authority, ':') >= 0 || authority[0] == '[' {
		out = append(out, '"')
		out = append(out, authority...)
		return append(out, '"')
	}
	return append(out, authority...)
}

// appendBelieved appends the same fields as appendPeerNames has, to the same point,
// for a peer that is trusted.
func (ex *exchange) appendBelieved(out []byte) []byte {
	c := ex.c
	out = append(out, "X-Forwarded-For: "...)
	out = ex.appendChain(out)
	out = appendAddr(out, c.peer.Addr())
	out = append(out, "\r\nX-Real-IP: "...)
	out = ex.addr.Addr().AppendTo(out)
	out = append(out, "\r\nX-Forwarded-Proto: "...)
	if proto := ex.said(http1.XForwardedProto); bytes.EqualFold(proto, []byte("https")) {
		out = append(out, "https\r\n"...)
	} else {
		out = append(out, "http\r\n"...)
	}
	if port := ex.said(http1.XForwardedPort); http1.IsPort(port) {
		out = http1.AppendField(out, "X-Forwarded-Port", port)
	}
	out = append(out, "Forwarded: "...)
	start := len(out)
	out = ex.appendList(out, http1.Forwarded)
	if said := out[start:]; len(said) > maxForwarded || !quotesEnd(said) {
		out = out[:start] // our element must not become a part of a string of theirs
	}
	return appendPeerNames(out, c.peer.Addr(), true)
}

// appendChain appends what X-Forwarded-For says, ready for one more entry.
func (ex *exchange) appendChain(out []byte) []byte {
	start := len(out)
	out = ex.appendList(out, http1.XForwardedFor)
	over := len(out) - start - maxForwarded
	if over <= 0 {
		return out
	}
	cut := start + over + bytes.IndexByte(out[start+over:], ',') + 1 // there is one at the end
	return append(out[:start], bytes.TrimLeft(out[cut:], " \t")...)
}

// appendList appends the values of all fields of a kind, each with a comma.
func (ex *exchange) appendList(out []byte, k http1.Kind) []byte {
	for i := range ex.req.Fields {
		if f := &ex.req.Fields[i]; f.Kind == k && !f.Drop && len(f.Value) > 0 {
			out = append(out, f.Value...)
			out = append(out, ", "...)
		}
	}
	return out
}

// quotesEnd reports whether every quoted string of a list ends.
func quotesEnd(list []byte) bool {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == '\\' && quoted:
			i++
		}
	}
	return !quoted
}

// said returns the value of the one field of a kind; nil when there is none, or
// more than one.
func (ex *exchange) said(k http1.Kind) (value []byte) {
	for i := range ex.req.Fields {
		f := &ex.req.Fields[i]
		if f.Kind != k || f.Drop {
			continue
		}
		if value != nil {
			return nil
		}
		value = f.Value
	}
	return value
}

// findClient finds whom a trusted proxy speaks for: the last address of
// X-Forwarded-For that is not one of a trusted proxy itself, because everything
// before that one is what somebody says who is not trusted. What is no address
// ends the search.
func (ex *exchange) findClient() {
	c := ex.c
	if !c.trusted {
		return
	}
	for _, f := range slices.Backward(ex.req.Fields) {
		if f.Kind != http1.XForwardedFor || f.Drop {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			comma := bytes.LastIndexByte(rest, ',')
			entry := bytes.Trim(rest[comma+1:], " \t")
			rest = rest[:max(comma, 0)]
			if len(entry) == 0 {
				continue
			}
			addr, ok := parseEntry(entry)
			if !ok {
				return
			}
			ex.addr = addr
			if !c.settings.trusted.Has(addr.Addr()) {
				return
			}
		}
	}
}

// parseEntry parses an entry of X-Forwarded-For: an address, which some write
// with a port behind it, and then IPv6 in brackets. Without one the port is 0.
func parseEntry(e []byte) (a netip.AddrPort, ok bool) {
	host, port := e, []byte(nil)
	if e[0] == '[' {
		end := bytes.IndexByte(e, ']')
		if end < 0 {
			return a, false
		}
		host = e[1:end]
		if port = e[end+1:]; len(port) > 0 && (port[0] != ':' || len(port) == 1) {
			return a, false
		}
	} else if i := bytes.IndexByte(e, ':'); i >= 0 && i == bytes.LastIndexByte(e, ':') {
		host, port = e[:i], e[i:]
	}
	number := 0
	if len(port) > 0 {
		if port = port[1:]; !http1.IsPort(port) {
			return a, false
		}
		for _, c := range port {
			number = number*10 + int(c-'0')
		}
	}
	if len(host) == 0 || len(host) > maxAddress {
		return a, false
	}
	// ParseAddr keeps nothing of its argument but in an error, which is dropped
	// here: no reason to copy every address.
	addr, err := netip.ParseAddr(unsafe.String(&host[0], len(host)))
	if err != nil || addr.Zone() != "" || e[0] == '[' && addr.Is4() {
		return a, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), true
}

// maxAddress is the length of the longest address without a zone, in bytes.
const maxAddress = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
