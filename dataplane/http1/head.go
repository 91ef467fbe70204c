package http1

// Request is the head of a request. Its byte slices are views into the buffer
// that was parsed, and valid as long as that is; the zero value is ready for
// use. It belongs to one goroutine at a time.
type Request struct {
	Message

	// Method is a token, case-sensitive; never CONNECT or TRACE.
	Method []byte
	// Target is the request target to forward: Path and, if HasQuery, '?' and
	// Query, in one piece. When the request was refused after its first line
	// was complete, Method and Target are set for the log, and Target is as
	// received unless its path was at fault.
	Target []byte
	// Path is canonical (route.CanonicalPath), or "*" for the asterisk-form.
	Path []byte
	// Query is as received, without the '?'.
	Query    []byte
	HasQuery bool

	// Host is the host to match: in lower case, without port and trailing dot,
	// an IPv6 address in its brackets. It is empty for a request of HTTP/1.0
	// that names none.
	Host []byte
	// Authority is the host, in lower case, and its port as they are to be
	// forwarded. Fields of kind Host say the same, but there may be none.
	Authority []byte

	// Expect100: the client waits for a 100 before it sends the body. The field
	// Expect has Drop set unless this is true.
	Expect100 bool
	// AcceptTrailers: "TE: trailers".
	AcceptTrailers bool

	mark   int    // while parsing: offset of '?' in Target, or -1
	joined []byte // scratch of Header
}

// Reset forgets the message and all views, keeping memory for the next one. It
// must be called between messages and before the buffer is given to others.
func (r *Request) Reset() {
	r.Message.drop()
	r.Method, r.Target, r.Path, r.Query, r.Host, r.Authority = nil, nil, nil, nil, nil, nil
	r.HasQuery, r.Expect100, r.AcceptTrailers = false, false, false
}

// ParseRequest parses the head of a request at the start of buf and returns its
// length with the empty line (RFC 9112 sections 2 to 6). 0 without an error says
// that buf ends before the head does: call it again, without Reset, once there
// are more bytes behind the same ones, wherever they lie by then; lines that
// were parsed are not parsed again unless they moved. An error is an *Error;
// what is wrong is reported as soon as it is seen, whether or not the rest of
// the head is there.
//
// Once the head is complete its target and host are brought into their one
// spelling inside buf; ParseRequest writes nowhere else, and keeps no view into
// buf but those in r. It allocates only while r's Fields grow to what is usual.
func ParseRequest(buf []byte, lim *Limits, r *Request) (n int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if r.base != &buf[0] {
		r.Message.begin(&buf[0], true)
		r.Expect100, r.AcceptTrailers = false, false
	}
	l := lim.effective()
	head := buf[:min(len(buf), l.MaxHeadBytes)]
	n, flt := r.parse(head, &l)
	if n == 0 && flt == noFault {
		if len(head) < l.MaxHeadBytes {
			return 0, nil
		}
		flt = faultHeadTooLarge
	}
	r.base = nil
	if flt != noFault {
		return 0, flt.ofRequest()
	}
	return n, nil
}

// parse goes on with the head where the last call stopped.
func (r *Request) parse(b []byte, l *Limits) (int, fault) {
	if r.next == 0 {
		next, flt := r.parseLine(b, l.MaxLine)
		if next == 0 {
			return 0, flt
		}
		r.next = next
	}
	n, flt := r.parseFields(b, l.MaxFields)
	if n == 0 {
		return 0, flt
	}
	return n, r.finish()
}

// parseLine parses the request line (RFC 9112 section 3) and returns the index
// behind it, or 0 if it is not complete.
func (r *Request) parseLine(b []byte, maxLine int) (int, fault) {
	start, flt := skipEmptyLine(b)
	if flt != noFault || start == len(b) {
		return 0, flt
	}
	line := b[start:min(len(b), start+maxLine+2)]
	n, flt := r.scanLine(line)
	switch {
	case flt != noFault:
		return 0, flt
	case n > 0:
		return start + n, noFault
	case len(line) == maxLine+2:
		return 0, faultTargetTooLong
	}
	return 0, noFault
}

// skipEmptyLine returns the index behind the one empty line that may stand
// before a request, sent by old clients after a body (RFC 9112 section 2.2).
func skipEmptyLine(b []byte) (int, fault) {
	switch {
	case b[0] == '\n':
		return 0, faultBareLF
	case b[0] != '\r':
		return 0, noFault
	case len(b) == 1:
		return 1, noFault
	case b[1] != '\n':
		return 0, faultBareCR
	case len(b) > 2 && (b[2] == '\r' || b[2] == '\n'):
		return 0, faultLeadingLines
	}
	return 2, noFault
}

// scanLine splits the request line at the start of b.
func (r *Request) scanLine(b []byte) (int, fault) {
	i, _ := tokenEnd(b, 0)
	if i == len(b) {
		return 0, noFault
	}
	if i == 0 || b[i] != ' ' {
		return 0, faultMethod
	}
	method := b[:i:i]
	start := i + 1
	mark := -1
	for i = targetStop(b, start); i < len(b) && b[i] == '?'; i = targetStop(b, i+1) {
		if mark < 0 {
			mark = i - start
		}
	}
	if i == len(b) {
		return 0, noFault
	}
	if b[i] != ' ' {
		return 0, faultTargetByte
	}
	if i == start {
		return 0, faultTargetEmpty
	}
	target := b[start:i:i]
	i++
	n, minor, flt := scanVersion(b[i:])
	if n == 0 {
		return 0, flt
	}
	r.Method, r.Target, r.mark, r.Minor = method, target, mark, minor
	if refusedMethod(method) {
		return 0, faultMethodRefused
	}
	return i + n, noFault
}

// HTTP versions as eight bytes, little-endian.
const (
	http10 = '0'<<56 | httpVersion
	http11 = '1'<<56 | httpVersion

	httpVersion = 'H' | 'T'<<8 | 'T'<<16 | 'P'<<24 | '/'<<32 | '1'<<40 | '.'<<48
)

// scanVersion parses the version and the end of the line at the start of b.
func scanVersion(b []byte) (n int, minor uint8, flt fault) {
	if len(b) < 8 {
		for _, c := range b {
			if c <= ' ' {
				return 0, 0, faultVersionSyntax
			}
		}
		return 0, 0, noFault
	}
	switch load64(b) {
	case http11:
		minor = 1
	case http10:
	default:
		return 0, 0, versionFault(b[:8])
	}
	switch {
	case len(b) > 8 && b[8] != '\r':
		return 0, 0, faultVersionSyntax
	case len(b) > 9 && b[9] != '\n':
		return 0, 0, faultBareCR
	case len(b) < 10:
		return 0, 0, noFault
	}
	return 10, minor, noFault
}

// versionFault tells a version that is not served from what is none.
func versionFault(v []byte) fault {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	if string(v[:5]) == "HTTP/" && digit(v[5]) && v[6] == '.' && digit(v[7]) {
		return faultVersion
	}
	return faultVersionSyntax
}

// refusedMethod says whether the method is one that turns on the proxy itself:
// CONNECT would open a tunnel, TRACE would show a client the fields that others
// have added.
func refusedMethod(m []byte) bool {
	switch len(m) {
	case 5:
		return string(m) == "TRACE"
	case 7:
		return string(m) == "CONNECT"
	}
	return false
}

// finish judges the head as a whole, and puts its target and host into form.
func (r *Request) finish() fault {
	if flt := r.frame(); flt != noFault {
		return flt
	}
	if flt := r.connect(); flt != noFault {
		return flt
	}
	if r.expectErr != noFault {
		return r.expectErr
	}
	body := r.Chunked || r.ContentLength > 0
	if r.expects > 0 {
		// HTTP/1.0 cannot expect, and without a body there is nothing to wait
		// for (RFC 9110 section 10.1.1).
		if r.Expect100 = body && r.Minor > 0; !r.Expect100 {
			r.dropKind(Expect)
		}
	}
	r.AcceptTrailers = r.trailers
	if r.websocket && r.options&optionUpgrade != 0 && r.Minor > 0 && !body && string(r.Method) == "GET" {
		// Only the handshake of RFC 6455 section 4.1; h2c never (RFC 9110
		// section 7.8 lets a server ignore an upgrade).
		r.Upgrade = websocket
	}
	return r.resolve()
}

// Header returns the value of the fields of that name, which is in lower case;
// several are joined by ", ". Fields that are not forwarded are not seen: what
// is matched is what the endpoint gets. The value is valid until the next call
// or Reset.
func (r *Request) Header(name string) (value []byte, ok bool) {
	several := false
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Drop || !foldName(f.Name, name) {
			continue
		}
		switch {
		case !ok:
			value, ok = f.Value, true
			continue
		case !several:
			r.joined = append(r.joined[:0], value...)
			several = true
		}
		r.joined = append(append(r.joined, ", "...), f.Value...)
	}
	if several {
		value = r.joined
	}
	return value, ok
}

// foldName is foldEqual for a word that may hold any byte of a token.
func foldName(token []byte, word string) bool {
	if len(token) != len(word) {
		return false
	}
	for i, c := range token {
		if lower(c) != word[i] {
			return false
		}
	}
	return true
}
