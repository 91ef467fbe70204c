package http1

// Field is one field line of a head: views into the buffer that was parsed.
type Field struct {
	// Name is a token (RFC 9110 section 5.1), in the letter case received.
	Name []byte
	// Value is without the white space around it, and free of control
	// characters other than HTAB; bytes from 0x80 on are possible.
	Value []byte
	Kind  Kind
	// Drop says that the field must not be forwarded and is not to be matched
	// either: it is hop-by-hop, or Connection names it, or its name could be
	// mistaken for another, or it repeats what was said.
	Drop bool
}

// scanField parses the field line at b[i:] into f and returns the index behind
// its CR LF. 0 without a fault says that b ends before the line does. f is
// written only when the line is good.
func scanField(b []byte, i int, f *Field) (next int, flt fault) {
	start := i
	i, classes := nameEnd(b, i)
	if i == len(b) {
		return 0, noFault
	}
	if b[i] != ':' || i == start {
		return 0, nameFault(b[i], i == start)
	}
	name := b[start:i:i]
	i++
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	start = i
	i = controlAt(b, i)
	if i == len(b) {
		return 0, noFault
	}
	if b[i] != '\r' {
		return 0, valueFault(b[i])
	}
	if i+1 == len(b) {
		return 0, noFault
	}
	if b[i+1] != '\n' {
		return 0, faultBareCR
	}
	next = i + 2
	for i > start && isSpace(b[i-1]) {
		i--
	}
	f.Name, f.Value, f.Kind = name, b[start:i:i], kindOf(name)
	f.Drop = classes != tokenPlain && (classes&tokenUnderscore != 0 || aliasOf(name) != Unknown)
	return next, noFault
}

// nameFault says what is wrong when c stands where the colon after a field's
// name should be.
func nameFault(c byte, empty bool) fault {
	switch {
	case c == '\n':
		return faultBareLF
	case empty && c == ':':
		return faultNameEmpty
	case isSpace(c):
		return faultNameSpace
	case c == '\r':
		return faultNoColon
	}
	return faultNameByte
}

// valueFault says what is wrong when c is in a field value.
func valueFault(c byte) fault {
	if c == '\n' {
		return faultBareLF
	}
	return faultValueByte
}
