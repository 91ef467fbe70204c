package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// The bytes that a value from outside may take in a line, escaped. A longer one
// is cut and ends in "...". They add up to less than maxLine, because container
// runtimes break longer lines into pieces.
const (
	maxURLPart = 4 << 10 // path, query
	maxText    = 1 << 10 // host, user agent, detail
	maxName    = 256     // names of Kubernetes are at most 253 bytes; request id, client
	maxWord    = 64      // method, protocol
	maxLine    = 16 << 10
)

// field is the name of a field, written with what separates it from the one
// before.
type field struct{ json, text string }

func newField(name string) field {
	return field{json: `,"` + name + `":`, text: " " + name + "="}
}

// The fields, in the order of a line. The first one is "time".
var (
	fieldMsg       = newField("msg")
	fieldRoute     = newField("route")
	fieldRule      = newField("rule")
	fieldClient    = newField("client")
	fieldMethod    = newField("method")
	fieldHost      = newField("host")
	fieldPath      = newField("path")
	fieldQuery     = newField("query")
	fieldProto     = newField("proto")
	fieldStatus    = newField("status")
	fieldReason    = newField("reason")
	fieldSide      = newField("side")
	fieldDetail    = newField("detail")
	fieldEndpoint  = newField("endpoint")
	fieldRateLimit = newField("rate_limit")
	fieldAttempts  = newField("attempts")
	fieldRetry     = newField("retry")
	fieldDuration  = newField("duration_s")
	fieldConnect   = newField("connect_s")
	fieldHeader    = newField("upstream_header_s")
	fieldBytesIn   = newField("bytes_in")
	fieldBytesOut  = newField("bytes_out")
	fieldRequestID = newField("request_id")
	fieldUserAgent = newField("user_agent")
)

// line formats access log lines, one after the other, for one goroutine at a
// time.
type line struct {
	json bool
	buf  []byte
	// second is the Unix time that the prefix belongs to.
	second int64
	prefix [len("2006-01-02T15:04:05")]byte
}

// format returns the line of the request, which is valid until the next call.
// A field that does not apply is left out; those that every request has are
// there even if empty.
func (l *line) format(r *proxy.Record) []byte {
	l.start(r.Start)
	if r.Rule.Route != "" {
		l.route(r.Rule)
		str(l, fieldRule, r.Rule.Rule, maxName)
	}
	l.addr(fieldClient, r.Client)
	str(l, fieldMethod, r.Method, maxWord)
	str(l, fieldHost, r.Host, maxText)
	str(l, fieldPath, r.Path, maxURLPart)
	if len(r.Query) > 0 {
		str(l, fieldQuery, r.Query, maxURLPart)
	}
	str(l, fieldProto, r.Proto, maxWord)
	l.int(fieldStatus, int64(r.Status))
	str(l, fieldReason, r.Reason.String(), maxName)
	if r.Reason != proxy.ReasonOK {
		str(l, fieldSide, r.Reason.Side().String(), maxName)
	}
	if r.Detail != "" {
		str(l, fieldDetail, r.Detail, maxText)
	}
	if r.Endpoint.IsValid() {
		l.addr(fieldEndpoint, r.Endpoint)
	}
	if r.WouldLimit {
		str(l, fieldRateLimit, "dry_run", maxName)
	}
	l.int(fieldAttempts, int64(r.Attempts))
	if r.Stopped != retry.WhyFinal {
		str(l, fieldRetry, r.Stopped.String(), maxWord)
	}
	l.seconds(fieldDuration, r.Duration)
	if r.Connect > 0 {
		l.seconds(fieldConnect, r.Connect)
	}
	if r.UpstreamHeader > 0 {
		l.seconds(fieldHeader, r.UpstreamHeader)
	}
	l.int(fieldBytesIn, r.BytesIn)
	l.int(fieldBytesOut, r.BytesOut)
	str(l, fieldRequestID, r.RequestID, maxName)
	if len(r.UserAgent) > 0 {
		str(l, fieldUserAgent, r.UserAgent, maxText)
	}
	if l.json {
		l.buf = append(l.buf, '}')
	}
	l.buf = append(l.buf, '\n')
	return l.buf
}

// start begins a line with the time in UTC and microseconds. Seconds come in
// rows, so the part before the point is formatted once for each.
func (l *line) start(t time.Time) {
	if s := t.Unix(); s != l.second || l.prefix[0] == 0 {
		t.UTC().AppendFormat(l.prefix[:0], "2006-01-02T15:04:05")
		l.second = s
	}
	if l.json {
		l.buf = append(l.buf[:0], `{"time":"`...)
	} else {
		l.buf = append(l.buf[:0], `time=`...)
	}
	l.buf = append(l.buf, l.prefix[:]...)
	l.buf = appendMicros(l.buf, t.Nanosecond()/1000)
	l.buf = append(l.buf, 'Z')
	if l.json {
		l.buf = append(l.buf, '"')
	}
	str(l, fieldMsg, "request", maxName)
}

func (l *line) name(f field) {
	if l.json {
		l.buf = append(l.buf, f.json...)
	} else {
		l.buf = append(l.buf, f.text...)
	}
}

// route writes namespace/name.
func (l *line) route(id proxy.RuleID) {
	l.name(fieldRoute)
	quote := l.json || !bare(id.Namespace, maxName) || !bare(id.Route, maxName)
	if quote {
		l.buf = append(l.buf, '"')
	}
	l.buf = appendEscaped(l.buf, id.Namespace, maxName)
	l.buf = append(l.buf, '/')
	l.buf = appendEscaped(l.buf, id.Route, maxName)
	if quote {
		l.buf = append(l.buf, '"')
	}
}

// addr writes an address with its port; an IPv4 one as such, also when it came
// in through an IPv6 socket.
func (l *line) addr(f field, a netip.AddrPort) {
	ip := a.Addr().Unmap()
	if !ip.IsValid() || ip.Zone() != "" {
		// A zone is the name of an interface, and that is free text.
		s := ""
		if ip.IsValid() {
			s = a.String()
		}
		str(l, f, s, maxName)
		return
	}
	l.name(f)
	if l.json {
		l.buf = append(l.buf, '"')
	}
	l.buf = netip.AddrPortFrom(ip, a.Port()).AppendTo(l.buf)
	if l.json {
		l.buf = append(l.buf, '"')
	}
}

func (l *line) int(f field, n int64) {
	l.name(f)
	l.buf = strconv.AppendInt(l.buf, n, 10)
}

// seconds writes d in seconds, cut to microseconds; a negative one as zero.
func (l *line) seconds(f field, d time.Duration) {
	l.name(f)
	micros := max(d, 0).Microseconds()
	l.buf = strconv.AppendInt(l.buf, micros/1e6, 10)
	l.buf = appendMicros(l.buf, int(micros%1e6))
}

// appendMicros appends a point and the six digits of n.
func appendMicros(dst []byte, n int) []byte {
	return append(dst, '.',
		byte('0'+n/100000), byte('0'+n/10000%10), byte('0'+n/1000%10),
		byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
}

// text is what a value can be.
type text interface{ ~string | ~[]byte }

// str writes a value of at most limit escaped bytes. It is no method because
// methods have no type parameters.
func str[T text](l *line, f field, v T, limit int) {
	l.name(f)
	if !l.json && bare(v, limit) {
		l.buf = append(l.buf, v...)
		return
	}
	l.buf = append(l.buf, '"')
	l.buf = appendEscaped(l.buf, v, limit)
	l.buf = append(l.buf, '"')
}

// Classes of bytes in values.
const (
	classEscape = iota // must be escaped in quotes
	classQuoted        // stands for itself in quotes
	classBare          // stands for itself, with or without quotes
)

// byteClass is the class of every byte. Only graphic ASCII stands for itself:
// what a terminal or another reader takes as an end of line or as a command
// never gets into the log.
var byteClass = func() (t [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		t[c] = classBare
	}
	t[' '], t['='] = classQuoted, classQuoted
	t['"'], t['\\'] = classEscape, classEscape
	return t
}()

// bare reports whether v needs no quotes in the text form.
func bare[T text](v T, limit int) bool {
	for i := range len(v) {
		if byteClass[v[i]] != classBare {
			return false
		}
	}
	return len(v) > 0 && len(v) <= limit
}

// appendEscaped appends v as the inside of a JSON string in ASCII. What is not
// UTF-8 becomes U+FFFD, byte by byte. If that takes more than limit bytes it is
// cut after a whole character and ends in "...".
func appendEscaped[T text](dst []byte, v T, limit int) []byte {
	end := len(dst) + limit
	for i := 0; i < len(v); {
		from := i
		for i < len(v) && byteClass[v[i]] != classEscape {
			i++
		}
		if room := end - len(dst); i-from > room {
			return append(append(dst, v[from:from+room]...), "..."...)
		}
		dst = append(dst, v[from:i]...)
		if i == len(v) {
			break
		}
		// Converted at most four bytes at a time, this stays off the heap.
		r, size := utf8.DecodeRuneInString(string(v[i:min(i+utf8.UTFMax, len(v))]))
		before := len(dst)
		dst = appendRune(dst, r)
		if len(dst) > end {
			return append(dst[:before], "..."...)
		}
		i += size
	}
	return dst
}

// appendRune appends the escape of a character.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r > 0xffff:
		// A surrogate pair, RFC 8259, section 7.
		r -= 0x10000
		return appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendUnit(dst, r)
}

// appendUnit appends the escape of a UTF-16 code unit.
func appendUnit(dst []byte, u rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}
