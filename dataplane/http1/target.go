package http1

import (
	"bytes"
	"errors"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

// resolve finds out whom the request is for and what it asks of him (RFC 9112
// sections 3.2 and 3.3), and brings both into their one spelling.
func (r *Request) resolve() fault {
	if r.hosts > 1 {
		return faultHostRepeated
	}
	r.Host, r.Authority = nil, nil
	if r.hosts == 1 {
		// Even a Host that the target overrules must be good (section 3.2).
		f := &r.Fields[r.hostAt]
		host, flt := splitAuthority(f.Value)
		if flt != noFault {
			return flt
		}
		r.Host, r.Authority = host, f.Value
	} else if r.Minor > 0 {
		return faultHostMissing
	}
	if r.Target[0] != '/' && string(r.Target) != "*" {
		if flt := r.resolveAbsolute(); flt != noFault {
			return flt
		}
	}
	lowerCase(r.Authority)

	path := r.Target
	r.Query, r.HasQuery = nil, r.mark >= 0
	if r.HasQuery {
		path, r.Query = r.Target[:r.mark], r.Target[r.mark+1:]
	}
	if path[0] == '*' {
		r.Path = path
		if string(r.Method) != "OPTIONS" {
			return faultAsterisk
		}
		return noFault
	}
	n, err := route.CanonicalPath(path)
	if err != nil {
		return pathFault(err)
	}
	if gap := len(path) - n; gap > 0 {
		// Close up to the query, so that the target stays in one piece.
		copy(path[gap:], path[:n])
		path, r.Target = path[gap:], r.Target[gap:]
	}
	r.Path = path
	return noFault
}

// resolveAbsolute turns an absolute-form target into origin-form. Its authority
// replaces what Host says (RFC 9112 section 3.2.2).
func (r *Request) resolveAbsolute() fault {
	const scheme = "http://"
	t := r.Target
	if len(t) < len(scheme) || !foldName(t[:len(scheme)], scheme) {
		if i := bytes.Index(t, []byte("://")); i > 0 && isToken(t[:i]) {
			return faultTargetScheme
		}
		return faultTargetForm
	}
	end := len(t)
	if r.mark >= 0 {
		end = r.mark
	}
	if i := bytes.IndexByte(t[len(scheme):end], '/'); i >= 0 {
		end = len(scheme) + i
	}
	authority := t[len(scheme):end:end]
	host, flt := splitAuthority(authority)
	if flt != noFault {
		return flt
	}
	if end == len(t) || t[end] == '?' {
		// The path is empty, which is '/', or for OPTIONS without a query '*'
		// (section 3.2.4). It is written into the place of the authority's last
		// byte, and the authority moves over the scheme's last slash.
		copy(t[len(scheme)-1:], authority)
		end--
		authority = t[len(scheme)-1 : end : end]
		host = authority[:len(host):len(host)]
		t[end] = '/'
		if end+1 == len(t) && string(r.Method) == "OPTIONS" {
			t[end] = '*'
		}
	}
	r.Target = t[end:]
	if r.mark >= 0 {
		r.mark -= end
	}
	r.Host, r.Authority = host, authority
	if r.hosts == 1 {
		r.Fields[r.hostAt].Value = authority
	}
	return noFault
}

// pathFault returns the fault of an error of route.CanonicalPath. Bytes that a
// target cannot hold were seen before.
func pathFault(err error) fault {
	switch {
	case errors.Is(err, route.ErrPathEscape):
		return faultPathEscape
	case errors.Is(err, route.ErrPathNul):
		return faultPathNul
	case errors.Is(err, route.ErrPathBackslash):
		return faultPathBackslash
	case errors.Is(err, route.ErrPathAboveRoot):
		return faultPathAboveRoot
	case errors.Is(err, route.ErrPathHiddenDot):
		return faultPathHiddenDot
	}
	return faultTargetForm
}

// hostByte is the bytes of a host name, and what they are in lower case; 0 is
// for all others. '_' is in no host name by the rules, but in many by custom.
var hostByte = func() (t [256]byte) {
	for c := range t {
		if tokenClass[c] == tokenPlain {
			t[c] = lower(byte(c))
		}
	}
	t['.'], t['_'] = '.', '_'
	return t
}()

// maxHost is the longest host name in bytes (RFC 1035 section 2.3.4, as text),
// with a trailing dot.
const maxHost = 254

// splitAuthority checks host[:port] and returns the host without a trailing
// dot. User information, percent-encoding, empty names and empty labels are
// refused.
func splitAuthority(a []byte) (host []byte, flt fault) {
	if len(a) == 0 {
		return nil, faultHostSyntax
	}
	i := 0
	if a[0] == '[' {
		i = bytes.IndexByte(a, ']') + 1
		if i == 0 || !isIPv6(a[1:i-1]) {
			return nil, faultHostSyntax
		}
		host = a[:i:i]
	} else {
		dot := -1
		for ; i < len(a) && hostByte[a[i]] != 0; i++ {
			if a[i] == '.' {
				if dot == i-1 {
					return nil, faultHostSyntax
				}
				dot = i
			}
		}
		if i == 0 || i > maxHost {
			return nil, faultHostSyntax
		}
		host = a[:i:i]
		if dot == i-1 {
			host = a[:dot:dot]
		}
	}
	switch {
	case i == len(a):
		return host, noFault
	case a[i] != ':':
		return nil, faultHostSyntax
	case !isPort(a[i+1:]):
		return nil, faultHostPort
	}
	return host, noFault
}

// isPort says whether p is a number from 1 to 65535 without leading zeros.
func isPort(p []byte) bool {
	if len(p) == 0 || len(p) > 5 || p[0] == '0' {
		return false
	}
	n := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// isIPv6 says whether a is the text of an IPv6 address without a zone (RFC 3986
// section 3.2.2): up to eight groups of up to four hexadecimal digits, one "::"
// for the groups that are left out, an IPv4 address in place of the last two.
func isIPv6(a []byte) bool {
	groups, skipped := 0, false
	for i := 0; i < len(a); {
		if a[i] == ':' {
			// A "::", or the colon after a group.
			if i+1 < len(a) && a[i+1] == ':' {
				if skipped {
					return false
				}
				skipped = true
				i += 2
				continue
			}
			if i++; groups == 0 || i == len(a) || a[i-2] == ':' {
				return false
			}
			continue
		}
		digits := 0
		for i < len(a) && isHex(a[i]) {
			i++
			digits++
		}
		if i < len(a) && a[i] == '.' {
			i -= digits
			groups += 2
			return isIPv4(a[i:]) && (groups == 8 && !skipped || groups < 8 && skipped)
		}
		if groups++; digits == 0 || digits > 4 || i < len(a) && a[i] != ':' {
			return false
		}
	}
	return groups == 8 && !skipped || groups < 8 && skipped
}

// isIPv4 says whether a is four numbers from 0 to 255 with dots between.
func isIPv4(a []byte) bool {
	for part := 0; part < 4; part++ {
		n, digits := 0, 0
		for ; digits < len(a) && '0' <= a[digits] && a[digits] <= '9'; digits++ {
			n = n*10 + int(a[digits]-'0')
		}
		if digits == 0 || digits > 3 || n > 255 || digits > 1 && a[0] == '0' {
			return false
		}
		if a = a[digits:]; part < 3 {
			if len(a) == 0 || a[0] != '.' {
				return false
			}
			a = a[1:]
		}
	}
	return len(a) == 0
}

func isHex(c byte) bool { return hexValue[c] < 16 }

// lowerCase puts ASCII letters into lower case in place.
func lowerCase(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
}
