package http1

// Response is the head of a response, interim ones (1xx) included. Its byte
// slices are views into the buffer that was parsed, and valid as long as that
// is; the zero value is ready for use. It belongs to one goroutine at a time.
type Response struct {
	Message

	// Status is from 100 to 599.
	Status int
	// ReasonPhrase is as received and may be empty.
	ReasonPhrase []byte
	// KeepAliveTimeout is the N of "Keep-Alive: timeout=N", in seconds: how
	// long the peer says that it keeps the connection when idle. 0: not said.
	KeepAliveTimeout int
}

// Reset forgets the message and all views, keeping memory for the next one. It
// must be called between messages and before the buffer is given to others.
func (r *Response) Reset() {
	r.Message.drop()
	r.Status, r.ReasonPhrase, r.KeepAliveTimeout = 0, nil, 0
}

// ParseResponse parses the head of a response at the start of buf. It returns
// and behaves as ParseRequest does; it never writes into buf. Beside what is
// wrong in requests too, a message of which a client and this proxy could
// disagree where it ends is refused.
func ParseResponse(buf []byte, lim *Limits, r *Response) (n int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if r.base != &buf[0] {
		r.Message.begin(&buf[0], false)
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
		return 0, flt.ofResponse()
	}
	return n, nil
}

// parse goes on with the head where the last call stopped.
func (r *Response) parse(b []byte, l *Limits) (int, fault) {
	if r.next == 0 {
		line := b[:min(len(b), l.MaxLine+2)]
		next, flt := r.scanLine(line)
		if next == 0 {
			if flt == noFault && len(line) == l.MaxLine+2 {
				flt = faultHeadTooLarge
			}
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

// scanLine parses the status line at the start of b (RFC 9112 section 4) and
// returns the index behind it, or 0 if it is not complete. The space before an
// absent reason phrase may be absent too: many servers forget it.
func (r *Response) scanLine(b []byte) (int, fault) {
	const code = len("HTTP/1.1 ")
	if len(b) < code+4 {
		for i, c := range b[:min(len(b), code)] {
			if c != "HTTP/1.1 "[i] && (i != code-2 || c != '0') {
				return 0, faultStatusLine
			}
		}
		for _, c := range b[min(len(b), code):] {
			if c < '0' || c > '9' {
				return 0, faultStatusCode
			}
		}
		return 0, noFault
	}
	version := load64(b)
	if version != http11 && version != http10 || b[code-1] != ' ' {
		return 0, faultStatusLine
	}
	status := 0
	for _, c := range b[code : code+3] {
		if c < '0' || c > '9' {
			return 0, faultStatusCode
		}
		status = status*10 + int(c-'0')
	}
	start := code + 3
	switch b[start] {
	case ' ':
		start++
	case '\r':
	default:
		return 0, faultStatusCode
	}
	if status < 100 || status > 599 {
		return 0, faultStatusCode
	}
	end := controlAt(b, start)
	if end+1 >= len(b) {
		if end < len(b) && b[end] != '\r' {
			return 0, faultReasonPhrase
		}
		return 0, noFault
	}
	if b[end] != '\r' || b[end+1] != '\n' {
		return 0, faultReasonPhrase
	}
	r.Minor = uint8(version >> 56 & 1)
	r.Status, r.ReasonPhrase = status, b[start:end:end]
	return end + 2, noFault
}

// finish judges the head as a whole.
func (r *Response) finish() fault {
	if flt := r.frame(); flt != noFault {
		return flt
	}
	doubtful := false
	if r.Status < 200 || r.Status == 204 {
		// Neither may say how long its body is, for it has none (RFC 9110
		// section 8.6, RFC 9112 section 6.1). A length of 0 is a common habit;
		// of a server that says anything else it is not known what follows.
		doubtful = r.Chunked || r.ContentLength > 0
		r.Chunked, r.ContentLength = false, -1
		r.dropKind(ContentLength)
	}
	if flt := r.connect(); flt != noFault {
		return flt
	}
	r.Close = r.Close || doubtful
	r.KeepAliveTimeout = r.keepAlive
	if r.Status == 101 && r.websocket && r.options&optionUpgrade != 0 && r.Minor > 0 {
		r.Upgrade = websocket
	}
	return noFault
}

// BodyFraming returns how the body that follows the response to a request of
// that method is delimited (RFC 9112 section 6.3): by its length in bytes, by
// chunks (length is -1), or by the end of the connection (length is -1).
func (r *Response) BodyFraming(requestMethod []byte) (length int64, chunked, untilClose bool) {
	switch {
	case string(requestMethod) == "HEAD", r.Status < 200, r.Status == 204, r.Status == 304:
		return 0, false, false
	case r.Chunked:
		return -1, true, false
	case r.ContentLength >= 0:
		return r.ContentLength, false, false
	}
	return -1, false, true
}
