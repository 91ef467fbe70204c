package http1

// IsAuthority reports whether a is host[:port] as in a Host field: a name, an
// IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535.
func IsAuthority(a []byte) bool {
	_, flt := splitAuthority(a)
	return flt == noFault
}

// IsPort reports whether p is a number from 1 to 65535 without leading zeros.
func IsPort(p []byte) bool { return isPort(p) }
