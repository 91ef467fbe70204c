package route

import (
	"bytes"
	"sync"
)

// conditions on a request besides its host and path. All must hold.
type conditions struct {
	method  string // "" = every method
	headers []valueCondition
	query   []valueCondition
}

// valueCondition is a condition on the field or parameter called name.
type valueCondition struct {
	name  string
	value string   // the whole value, unless there is a pattern
	regex *pattern // nil: value is compared
}

func (c *conditions) hold(r *Request) bool {
	if c.method != "" && c.method != string(r.Method) {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].holdsForHeader(r.Headers) {
			return false
		}
	}
	for i := range c.query {
		if !c.query[i].holdsForQuery(r.RawQuery) {
			return false
		}
	}
	return true
}

func (c *valueCondition) holdsForHeader(headers HeaderSource) bool {
	if headers == nil {
		return false
	}
	value, ok := headers.Header(c.name)
	if !ok {
		return false
	}
	if c.regex != nil {
		return c.regex.match(value)
	}
	return c.value == string(value)
}

func (c *valueCondition) holdsForQuery(query []byte) bool {
	value, ok := QueryValue(query, c.name)
	if !ok {
		return false
	}
	if c.regex != nil {
		return matchDecoded(c.regex, value)
	}
	return equalDecoded(value, c.value)
}

// QueryValue returns the value, still encoded, of the first parameter with the
// decoded name. Parameters are separated by '&' alone: a ';' is data, as the
// URL standard has it. One without '=' has an empty value.
func QueryValue(query []byte, name string) (value []byte, ok bool) {
	for more := true; more; {
		var pair []byte
		pair, query, more = bytes.Cut(query, ampersand)
		if len(pair) == 0 {
			continue
		}
		key, value, _ := bytes.Cut(pair, equals)
		if equalDecoded(key, name) {
			return value, true
		}
	}
	return nil, false
}

var ampersand, equals = []byte("&"), []byte("=")

// equalDecoded says whether raw, decoded as application/x-www-form-urlencoded,
// is want.
func equalDecoded(raw []byte, want string) bool {
	n := 0
	for len(raw) > 0 {
		c, size := decodeByte(raw)
		if n == len(want) || want[n] != c {
			return false
		}
		raw = raw[size:]
		n++
	}
	return n == len(want)
}

// decodeByte returns the first byte that raw stands for, and the length of its
// encoding. A '%' that begins no escape stands for itself, as in the URL
// standard.
func decodeByte(raw []byte) (c byte, size int) {
	switch raw[0] {
	case '+':
		return ' ', 1
	case '%':
		if len(raw) >= 3 {
			if hi, lo := hexValue(raw[1]), hexValue(raw[2]); hi < 16 && lo < 16 {
				return hi<<4 | lo, 3
			}
		}
	}
	return raw[0], 1
}

// decoded values for regular expressions; a *[]byte each.
var decodedPool = sync.Pool{New: func() any { return new([]byte) }}

// matchDecoded says whether p matches raw, decoded as
// application/x-www-form-urlencoded.
func matchDecoded(p *pattern, raw []byte) bool {
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return p.match(raw)
	}
	buf := decodedPool.Get().(*[]byte)
	decoded := (*buf)[:0]
	for len(raw) > 0 {
		c, size := decodeByte(raw)
		decoded = append(decoded, c)
		raw = raw[size:]
	}
	ok := p.match(decoded)
	*buf = decoded
	decodedPool.Put(buf)
	return ok
}
