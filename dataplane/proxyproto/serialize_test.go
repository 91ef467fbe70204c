package proxyproto_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// serialize writes a header again, as a load balancer would.
func serialize(version uint8, source, destination netip.AddrPort) []byte {
	known := source.IsValid()
	six := known && (source.Addr().Is6() || destination.Addr().Is6())
	if version == 1 {
		switch {
		case !known:
			return []byte("PROXY UNKNOWN\r\n")
		case six:
			return fmt.Appendf(nil, "PROXY TCP6 %s %s %d %d\r\n", sixteen(source), sixteen(destination), source.Port(), destination.Port())
		}
		return fmt.Appendf(nil, "PROXY TCP4 %s %s %d %d\r\n", source.Addr(), destination.Addr(), source.Port(), destination.Port())
	}
	b := []byte("\r\n\r\n\x00\r\nQUIT\n")
	switch {
	case !known:
		return append(b, 0x20, 0, 0, 0)
	case six:
		b = append(b, 0x21, 0x21, 0, 36)
		b = append(append(b, sixteen(source).AsSlice()...), sixteen(destination).AsSlice()...)
	default:
		b = append(b, 0x21, 0x11, 0, 12)
		b = append(append(b, source.Addr().AsSlice()...), destination.Addr().AsSlice()...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

func sixteen(a netip.AddrPort) netip.Addr { return netip.AddrFrom16(a.Addr().As16()) }
