package proxyproto

import (
	"errors"
	"net/netip"
)

// Header is what a header says.
type Header struct {
	// Version is 1 or 2.
	Version uint8
	// Source and Destination are the ends of the client's connection to the
	// load balancer; IPv4 written as IPv6 is IPv4. They are invalid when the header
	// does not tell: the command LOCAL of version 2 (a health check, say),
	// UNKNOWN of version 1, UNSPEC of version 2. The addresses of the
	// connection itself hold then.
	Source, Destination netip.AddrPort
}

// Errors of Parse, beside nil.
var (
	ErrSignature = errors.New("proxyproto: not a PROXY header")
	ErrLine      = errors.New("proxyproto: malformed line of version 1")
	ErrLineSize  = errors.New("proxyproto: line of version 1 above 107 bytes")
	ErrVersion   = errors.New("proxyproto: neither version 2 nor a command of it")
	ErrFamily    = errors.New("proxyproto: neither TCP over IPv4 nor TCP over IPv6")
	ErrSize      = errors.New("proxyproto: header of version 2 above 4 KiB")
	ErrShort     = errors.New("proxyproto: header of version 2 too short for its addresses")
	ErrField     = errors.New("proxyproto: malformed TLV")
	ErrChecksum  = errors.New("proxyproto: wrong checksum")
)

const (
	// MinSize is the size of the shortest header: "PROXY UNKNOWN\r\n".
	MinSize = 15
	// MaxSize bounds a header. That of version 1 is at most 107 bytes
	// (section 2.1).
	MaxSize = 4096
)

// Parse parses the header at the start of b. With a nil error, more is 0 and
// the header is b[:n], or it is not complete and at least more bytes follow
// that belong to it: b never has to hold a byte of what is behind the header.
// An error is final: no further bytes would make it good.
func Parse(b []byte) (h Header, n, more int, err error) {
	if len(b) == 0 {
		return h, 0, MinSize, nil
	}
	if b[0] == signature[0] {
		return parseBinary(b)
	}
	return parseLine(b)
}
