package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// signature starts a header of version 2 (section 2.2). Nothing that speaks
// another protocol begins like it.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// The fixed part of version 2: the signature, version and command, family and
// transport, and the number of bytes that follow, in network order.
const (
	atCommand = len(signature)
	atFamily  = atCommand + 1
	atLength  = atFamily + 1
	fixedSize = atLength + 2
)

const (
	commandLocal, commandProxy = 0x20, 0x21
	familyUnspec               = 0x00
	familyTCP4, familyTCP6     = 0x11, 0x21
)

// parseBinary is Parse for version 2.
func parseBinary(b []byte) (h Header, n, more int, err error) {
	if k := min(len(b), len(signature)); string(b[:k]) != signature[:k] {
		return h, 0, 0, ErrSignature
	}
	if len(b) > atCommand && b[atCommand] != commandLocal && b[atCommand] != commandProxy {
		return h, 0, 0, ErrVersion
	}
	if len(b) < fixedSize {
		return h, 0, fixedSize - len(b), nil
	}
	n = fixedSize + int(binary.BigEndian.Uint16(b[atLength:]))
	if n > MaxSize {
		return h, 0, 0, ErrSize
	}
	if len(b) < n {
		return h, 0, n - len(b), nil
	}
	h, err = parseWhole(b[:n:n])
	if err != nil {
		return Header{}, 0, 0, err
	}
	return h, n, 0, nil
}

// parseWhole parses a header of version 2 that is complete.
func parseWhole(b []byte) (h Header, err error) {
	h.Version = 2
	body := b[fixedSize:]
	if b[atCommand] == commandLocal {
		// Family and addresses are to be ignored, whatever they are.
		return h, nil
	}
	var size int // of an address
	switch b[atFamily] {
	case familyTCP4:
		size = 4
	case familyTCP6:
		size = 16
	case familyUnspec:
		// The rest is to be ignored.
		return h, nil
	default:
		return h, ErrFamily
	}
	addresses := 2*size + 4
	if len(body) < addresses {
		return h, ErrShort
	}
	source, _ := netip.AddrFromSlice(body[:size])
	destination, _ := netip.AddrFromSlice(body[size : 2*size])
	h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(body[2*size:]))
	h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(body[2*size+2:]))
	return h, checkFields(b, fixedSize+addresses)
}

// typeCRC32C is the TLV with the CRC-32C of the header in which its own value is
// zero (section 2.2.3).
const typeCRC32C = 0x03

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkFields goes through the TLVs at b[i:], which fill the header to its end.
// Only a checksum is looked into.
func checkFields(b []byte, i int) error {
	summed := false
	for i < len(b) {
		if len(b)-i < 3 {
			return ErrField
		}
		kind, size := b[i], int(binary.BigEndian.Uint16(b[i+1:]))
		if i += 3; size > len(b)-i {
			return ErrField
		}
		if kind == typeCRC32C {
			if size != crc32.Size || summed {
				return ErrField
			}
			summed = true
			if binary.BigEndian.Uint32(b[i:]) != checksum(b, i) {
				return ErrChecksum
			}
		}
		i += size
	}
	return nil
}

// checksum returns the CRC-32C of b with zeros for the four bytes at i.
func checksum(b []byte, i int) uint32 {
	sum := crc32.Update(0, castagnoli, b[:i])
	sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
	return crc32.Update(sum, castagnoli, b[i+crc32.Size:])
}
