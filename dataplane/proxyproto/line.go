package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
)

// maxLine is the size of the longest header of version 1 with its CR LF
// (section 2.1).
const maxLine = 107

// parseLine is Parse for version 1 (section 2.1):
//
//	PROXY TCP4 SOURCE DESTINATION PORT PORT CRLF
//	PROXY TCP6 SOURCE DESTINATION PORT PORT CRLF
//	PROXY UNKNOWN [anything] CRLF
func parseLine(b []byte) (h Header, n, more int, err error) {
	const start = "PROXY "
	if k := min(len(b), len(start)); string(b[:k]) != start[:k] {
		return h, 0, 0, ErrSignature
	}
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	if end < 0 {
		if len(b) >= maxLine {
			return h, 0, 0, ErrLineSize
		}
		return h, 0, lineRest(b), nil
	}
	if b[end-1] != '\r' {
		return h, 0, 0, ErrLine
	}
	h.Version = 1
	line := string(b[len(start) : end-1])
	if rest, ok := strings.CutPrefix(line, "UNKNOWN"); ok && (rest == "" || rest[0] == ' ') {
		if strings.IndexByte(rest, '\r') >= 0 {
			return Header{}, 0, 0, ErrLine
		}
		return h, end + 1, 0, nil
	}
	if !h.parseAddresses(strings.Split(line, " ")) {
		return Header{}, 0, 0, ErrLine
	}
	return h, end + 1, 0, nil
}

// lineRest returns how many bytes follow at least in a line that is not
// complete.
func lineRest(b []byte) int {
	switch {
	case len(b) < MinSize:
		return MinSize - len(b)
	case b[len(b)-1] == '\r':
		return len("\n")
	case !bytes.HasPrefix(b, []byte("PROXY TCP")):
		return len("\r\n")
	}
	// Five spaces, and a byte at least behind each.
	rest := max(5-bytes.Count(b, []byte(" ")), 0)*len(" 1") + len("\r\n")
	if b[len(b)-1] == ' ' {
		rest++
	}
	return min(rest, maxLine-len(b))
}

// parseAddresses takes the words of a line: family, addresses, ports.
func (h *Header) parseAddresses(words []string) bool {
	if len(words) != 5 {
		return false
	}
	source, ok1 := parseAddress(words[0], words[1], words[3])
	destination, ok2 := parseAddress(words[0], words[2], words[4])
	h.Source, h.Destination = source, destination
	return ok1 && ok2
}

func parseAddress(family, text, port string) (a netip.AddrPort, ok bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return a, false
	}
	switch family {
	case "TCP4":
		ok = addr.Is4()
	case "TCP6":
		ok = addr.Is6()
	}
	number, good := parsePort(port)
	return netip.AddrPortFrom(addr.Unmap(), number), ok && good
}

// parsePort parses a number from 0 to 65535 without leading zeros.
func parsePort(s string) (port uint16, ok bool) {
	if s == "" || len(s) > 5 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 0xffff
}
