package http1

import (
	"bytes"
	"math"
)

// Message is what the heads of requests and responses have in common.
type Message struct {
	// Minor is the x of HTTP/1.x: 0 or 1.
	Minor uint8
	// Fields in the order received. The slice is used again by the next parse.
	Fields []Field
	// ContentLength in bytes, or -1 for none.
	ContentLength int64
	// Chunked: the body is chunked. ContentLength is -1 then.
	Chunked bool
	// Close: the connection ends with this exchange, be it that the peer wants
	// that or that HTTP/1.0 does not say otherwise.
	Close bool
	// Upgrade is "websocket" when a request asks for that, or when a 101 grants
	// it; else nil. The fields Connection and Upgrade have Drop set either way:
	// they must be written anew.
	Upgrade []byte

	// base and next are of a head that is not complete: the buffer it is in and
	// the offset of the first line that was not parsed (0: the first).
	base *byte
	next int

	options    options
	length     []byte // the Content-Length as received
	hosts      int    // number of Host fields
	codings    int    // number of Transfer-Encoding fields
	codingErr  fault  // what is wrong with Transfer-Encoding
	expects    int    // number of Expect fields
	expectErr  fault
	trailers   bool // TE names trailers
	announces  bool // there is a Trailer field
	websocket  bool // Upgrade names websocket
	keepAlive  int  // timeout of Keep-Alive in seconds
	hostAt     int  // index of the last Host field
	underscore bool // names with '_' are dropped
}

// options is the set of Connection options seen.
type options uint8

const (
	optionClose options = 1 << iota
	optionKeepAlive
	optionUpgrade
	optionOther // one or more that may name a field
)

// maxOptions bounds the Connection options of a head that may name fields, so
// that the work of looking for the fields is bounded.
const maxOptions = 32

var websocket = []byte("websocket")

// begin prepares for the head at the start of a buffer.
func (m *Message) begin(base *byte, underscore bool) {
	*m = Message{Fields: m.Fields[:0], ContentLength: -1, base: base, underscore: underscore}
}

// drop lets go of everything but the memory of Fields.
func (m *Message) drop() {
	clear(m.Fields)
	m.begin(nil, false)
}

// parseFields parses field lines from b[m.next:] on, up to and with the empty
// line behind them, and returns the index behind that. 0 without a fault says
// that b ends before; all complete lines are in Fields then.
func (m *Message) parseFields(b []byte, maxFields int) (int, fault) {
	first := len(m.Fields) == 0
	for i := m.next; i < len(b); {
		if c := b[i]; c == '\r' {
			if i+1 == len(b) {
				return 0, noFault
			}
			if b[i+1] != '\n' {
				return 0, faultBareCR
			}
			return i + 2, noFault
		} else if isSpace(c) {
			if first {
				return 0, faultLeadingSpace
			}
			return 0, faultFold
		}
		n := len(m.Fields)
		if n == maxFields {
			return 0, faultTooManyFields
		}
		if n < cap(m.Fields) {
			m.Fields = m.Fields[:n+1]
		} else {
			m.Fields = append(m.Fields, Field{})
		}
		f := &m.Fields[n]
		next, flt := scanField(b, i, f)
		if next == 0 {
			m.Fields = m.Fields[:n]
			return 0, flt
		}
		f.Drop = f.Drop && m.underscore
		if framing.Has(f.Kind) {
			if flt := m.note(f, n); flt != noFault {
				return 0, flt
			}
		}
		first = false
		i, m.next = next, next
	}
	return 0, noFault
}

// note takes in what the n-th field says about the message and its connection.
func (m *Message) note(f *Field, n int) fault {
	if hopByHop.Has(f.Kind) {
		f.Drop = true
	}
	switch f.Kind {
	case Host:
		m.hosts++
		m.hostAt = n
	case Connection:
		return m.noteOptions(f.Value)
	case ContentLength:
		return m.noteLength(f)
	case TransferEncoding:
		m.codings++
		m.codingErr = codingFault(f.Value)
	case KeepAlive:
		m.keepAlive = keepAliveTimeout(f.Value)
	case TE:
		m.trailers = m.trailers || hasElement(f.Value, "trailers")
	case Upgrade:
		m.websocket = m.websocket || hasElement(f.Value, "websocket")
	case Expect:
		m.expects++
		f.Drop = m.expects > 1
		if !foldEqual(f.Value, "100-continue") {
			m.expectErr = faultExpect
		}
	case Trailer:
		m.announces = true
		f.Drop = !isTrailerList(f.Value)
	}
	return noFault
}

// noteOptions reads a Connection field (RFC 9110 section 7.6.1).
func (m *Message) noteOptions(list []byte) fault {
	for more := true; more; {
		var option []byte
		option, list, more = nextElement(list)
		switch {
		case foldEqual(option, "keep-alive"):
			m.options |= optionKeepAlive
		case foldEqual(option, "close"):
			m.options |= optionClose
		case foldEqual(option, "upgrade"):
			m.options |= optionUpgrade
		case len(option) == 0:
		case !isToken(option):
			return faultConnectionOption
		default:
			m.options |= optionOther
		}
	}
	return noFault
}

// noteLength reads a Content-Length. An identical repetition is dropped (RFC
// 9112 section 6.3); a list is refused even of identical values. Leading zeros
// are cut: they mean nothing here, but might elsewhere.
func (m *Message) noteLength(f *Field) fault {
	v := f.Value
	if m.ContentLength >= 0 {
		if !bytes.Equal(v, m.length) {
			return faultLengthRepeated
		}
		f.Drop = true
		return noFault
	}
	m.length = v
	for len(v) > 1 && v[0] == '0' {
		v = v[1:]
	}
	if len(v) == 0 || len(v) > len("9223372036854775807") {
		return faultLength
	}
	var n uint64 // 19 digits fit
	for _, c := range v {
		if c < '0' || c > '9' {
			return faultLength
		}
		n = n*10 + uint64(c-'0')
	}
	if n > math.MaxInt64 {
		return faultLength
	}
	m.ContentLength = int64(n)
	f.Value = v
	return noFault
}

// codingFault judges a Transfer-Encoding. Only "chunked" is good (RFC 9112
// section 6.1). A list of other codings that ends in chunked is well-formed and
// not implemented; anything else leaves the length of the body in doubt
// (section 6.3).
func codingFault(list []byte) fault {
	if foldEqual(list, "chunked") {
		return noFault
	}
	for more := true; more; {
		var coding []byte
		coding, list, more = nextElement(list)
		if !isToken(coding) || more == foldEqual(coding, "chunked") || foldEqual(coding, "identity") {
			return faultCodingFraming
		}
	}
	return faultCodingUnknown
}

// keepAliveTimeout returns the seconds of "timeout=N" in a Keep-Alive field, or
// 0. What it cannot read is no harm: the connection is kept as if there were
// no hint.
func keepAliveTimeout(list []byte) int {
	const name = "timeout="
	for more := true; more; {
		var p []byte
		p, list, more = nextElement(list)
		if len(p) <= len(name) || len(p) > len(name)+9 || !foldEqual(p[:len(name)-1], name[:len(name)-1]) || p[len(name)-1] != '=' {
			continue
		}
		n := 0
		for _, c := range p[len(name):] {
			if c < '0' || c > '9' {
				return 0
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	return 0
}

// isTrailerList says whether a Trailer field announces only what may be a
// trailer (RFC 9110 section 6.6.2); others are removed from the trailer section,
// and some servers refuse a message for announcing them.
func isTrailerList(list []byte) bool {
	for more := true; more; {
		var name []byte
		name, list, more = nextElement(list)
		if !isToken(name) || kindOf(name) != Unknown {
			return false
		}
	}
	return true
}

// hasElement says whether one element of a list is the word, which is in lower
// case.
func hasElement(list []byte, word string) bool {
	for more := true; more; {
		var e []byte
		e, list, more = nextElement(list)
		if foldEqual(e, word) {
			return true
		}
	}
	return false
}

// frame settles how the body is delimited, once all fields are known.
func (m *Message) frame() fault {
	switch {
	case m.codings == 0:
		return noFault
	case m.ContentLength >= 0:
		return faultLengthWithCoding
	case m.Minor == 0:
		return faultCodingVersion
	case m.codings > 1:
		return faultCodingRepeated
	}
	m.Chunked = m.codingErr == noFault
	return m.codingErr
}

// connect settles what becomes of the connection and of the fields that
// Connection names.
func (m *Message) connect() fault {
	m.Close = m.options&optionClose != 0 || m.Minor == 0 && m.options&optionKeepAlive == 0
	if m.announces && !m.Chunked {
		m.dropKind(Trailer) // there will be no trailers
	}
	if m.options&optionOther == 0 {
		return noFault
	}
	count := 0
	for i := range m.Fields {
		if m.Fields[i].Kind != Connection {
			continue
		}
		list := m.Fields[i].Value
		for more := true; more; {
			var option []byte
			option, list, more = nextElement(list)
			if len(option) == 0 {
				continue
			}
			if count++; count > maxOptions {
				return faultConnectionOptions
			}
			m.dropNamed(option)
		}
	}
	return noFault
}

// dropNamed drops the fields of a name unless they are end to end by
// definition: a client must not be able to take away what the proxy or the
// endpoint depends on (CVE-2024-45410, CVE-2026-29054, CVE-2021-33197).
func (m *Message) dropNamed(name []byte) {
	if kindOf(name) != Unknown {
		return
	}
	for i := range m.Fields {
		if f := &m.Fields[i]; foldEqualBytes(f.Name, name) {
			f.Drop = true
		}
	}
}

func (m *Message) dropKind(k Kind) {
	for i := range m.Fields {
		if f := &m.Fields[i]; f.Kind == k {
			f.Drop = true
		}
	}
}
