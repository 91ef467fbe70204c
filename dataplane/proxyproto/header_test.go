package proxyproto_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxyproto"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a header of version 2 from its parts.
func v2(command, family byte, body string) string {
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

const (
	tcp4 = "\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb" // 192.168.0.1:56324 to 192.168.0.11:443
	tcp6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xdc\x04\x01\xbb"
	mapped6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\xa8\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\xa8\x00\x0b\xdc\x04\x01\xbb"
)

// summed is a header with a TLV that holds its CRC-32C, changed by a bit mask.
func summed(wrong byte) string {
	b := []byte(v2(0x21, 0x11, tcp4+"\x04\x00\x01x"+"\x03\x00\x04\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	b[len(b)-1] ^= wrong
	return string(b)
}

var accepted = []struct{ name, header, source, destination string }{
	{"IPv4", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324", "192.168.0.11:443"},
	{"the longest IPv4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535"},
	{"the shortest IPv6", "PROXY TCP6 :: ::1 0 1\r\n", "[::]:0", "[::1]:1"},
	{"the longest IPv6", "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"IPv4 inside IPv6", "PROXY TCP6 ::ffff:192.168.0.1 2001:db8::2 1 2\r\n", "192.168.0.1:1", "[2001:db8::2]:2"},
	{"unknown", "PROXY UNKNOWN\r\n", "", ""},
	{"unknown with addresses, which do not count", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", ""},
	{"version 2, IPv4", v2(0x21, 0x11, tcp4), "192.168.0.1:56324", "192.168.0.11:443"},
	{"version 2, IPv6", v2(0x21, 0x21, tcp6), "[2001:db8::1]:56324", "[2001:db8::2]:443"},
	{"version 2, IPv4 inside IPv6", v2(0x21, 0x21, mapped6), "192.168.0.1:56324", "192.168.0.11:443"},
	{"version 2, local", v2(0x20, 0x00, ""), "", ""},
	{"version 2, local with addresses, which do not count", v2(0x20, 0x11, tcp4), "", ""},
	{"version 2, local with anything behind it", v2(0x20, 0x77, "\x03\x00\xff"), "", ""},
	{"version 2, unspecified family", v2(0x21, 0x00, "anything"), "", ""},
	{"version 2 with TLVs", v2(0x21, 0x11, tcp4+"\x02\x00\x03abc\x04\x00\x00\xea\x00\x01\x01"), "192.168.0.1:56324", "192.168.0.11:443"},
	{"version 2 with a checksum", summed(0), "192.168.0.1:56324", "192.168.0.11:443"},
	{"version 2 of 4 KiB", v2(0x21, 0x11, tcp4+"\x04\x0f\xe1"+strings.Repeat("x", 4065)), "192.168.0.1:56324", "192.168.0.11:443"},
}

// full writes the addresses of the specification's examples out.
func full(s string) []byte {
	return []byte(strings.ReplaceAll(s, "ffff:f...f:ffff", strings.TrimSuffix(strings.Repeat("ffff:", 8), ":")))
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func TestGoodHeadersSayWhoTheClientIs(t *testing.T) {
	for _, c := range accepted {
		header := full(c.header)
		h, n, more, err := proxyproto.Parse(append(header[:len(header):len(header)], "GET / HTTP/1.1\r\n"...))
		if err != nil || n != len(header) || more != 0 || text(h.Source) != c.source || text(h.Destination) != c.destination {
			t.Errorf("%s: %+v, %d of %d bytes, %d more, %v", c.name, h, n, len(header), more, err)
		}
	}
}

func TestBadHeadersAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         error
	}{
		{"HTTP", "GET / HTTP/1.1\r\n", proxyproto.ErrSignature},
		{"TLS", "\x16\x03\x01", proxyproto.ErrSignature},
		{"lower case", "proxy UNKNOWN\r\n", proxyproto.ErrSignature},
		{"white space in front", " PROXY UNKNOWN\r\n", proxyproto.ErrSignature},
		{"a family that does not exist", "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"UDP", "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"nothing after the word", "PROXY \r\n", proxyproto.ErrLine},
		{"a longer word than UNKNOWN", "PROXY UNKNOWNS\r\n", proxyproto.ErrLine},
		{"two spaces", "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"a tab", "PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"a space at the end", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", proxyproto.ErrLine},
		{"a word too many", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", proxyproto.ErrLine},
		{"a word too few", "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", proxyproto.ErrLine},
		{"IPv6 for IPv4", "PROXY TCP4 ::1 ::2 1 2\r\n", proxyproto.ErrLine},
		{"IPv4 for IPv6", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"both", "PROXY TCP4 1.1.1.1 ::2 1 2\r\n", proxyproto.ErrLine},
		{"a zone", "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", proxyproto.ErrLine},
		{"a zero before a number of an address", "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"a host name", "PROXY TCP4 localhost 2.2.2.2 1 2\r\n", proxyproto.ErrLine},
		{"a port above 65535", "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", proxyproto.ErrLine},
		{"a zero before a port", "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", proxyproto.ErrLine},
		{"a sign before a port", "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", proxyproto.ErrLine},
		{"no port", "PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n", proxyproto.ErrLine},
		{"LF alone", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", proxyproto.ErrLine},
		{"CR inside", "PROXY UNKNOWN \r \r\n", proxyproto.ErrLine},
		{"107 bytes without an end", "PROXY UNKNOWN " + strings.Repeat("x", 93), proxyproto.ErrLineSize},
		{"a 108th byte", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", proxyproto.ErrLineSize},
		{"another signature", "\r\n\r\n\x00\r\nQUIP\n\x21\x11\x00\x0c", proxyproto.ErrSignature},
		{"version 1 in the shape of version 2", v2(0x11, 0x11, tcp4), proxyproto.ErrVersion},
		{"version 3", v2(0x31, 0x11, tcp4), proxyproto.ErrVersion},
		{"a command that does not exist", v2(0x22, 0x11, tcp4), proxyproto.ErrVersion},
		{"UDP over IPv4", v2(0x21, 0x12, tcp4), proxyproto.ErrFamily},
		{"UDP over IPv6", v2(0x21, 0x22, tcp6), proxyproto.ErrFamily},
		{"a UNIX socket", v2(0x21, 0x31, strings.Repeat("x", 216)), proxyproto.ErrFamily},
		{"a family with an unspecified transport", v2(0x21, 0x10, tcp4), proxyproto.ErrFamily},
		{"too short for IPv4", v2(0x21, 0x11, tcp4[:11]), proxyproto.ErrShort},
		{"too short for IPv6", v2(0x21, 0x21, tcp4), proxyproto.ErrShort},
		{"above 4 KiB", v2(0x21, 0x11, tcp4+strings.Repeat("x", 4096-16-12+1)), proxyproto.ErrSize},
		{"half a TLV's head", v2(0x21, 0x11, tcp4+"\x04\x00"), proxyproto.ErrField},
		{"a TLV beyond the header", v2(0x21, 0x11, tcp4+"\x04\x00\x02x"), proxyproto.ErrField},
		{"a checksum of three bytes", v2(0x21, 0x11, tcp4+"\x03\x00\x03xxx"), proxyproto.ErrField},
		{"a wrong checksum", summed(1), proxyproto.ErrChecksum},
		{"two checksums", v2(0x21, 0x11, tcp4+strings.Repeat("\x03\x00\x04\x00\x00\x00\x00", 2)), proxyproto.ErrChecksum},
	} {
		if h, n, more, err := proxyproto.Parse([]byte(c.header)); err != c.want || n != 0 || more != 0 || h != (proxyproto.Header{}) {
			t.Errorf("%s: %+v, %d bytes, %d more, %v; want %v", c.name, h, n, more, err, c.want)
		}
	}
}

// follow reads a header as a connection does: as much as Parse asks for and
// never more than step bytes at a time. It returns what Parse said last and how
// much was read.
func follow(data []byte, step int) (h proxyproto.Header, n, read int, err error) {
	for {
		var more int
		h, n, more, err = proxyproto.Parse(data[:read])
		if err != nil || more == 0 || read == len(data) {
			return h, n, read, err
		}
		read = min(read+min(more, step), len(data))
	}
}

func TestNoByteBehindTheHeaderIsAskedFor(t *testing.T) {
	for _, c := range accepted {
		header := full(c.header)
		data := append(header[:len(header):len(header)], bytes.Repeat([]byte("G"), 64)...)
		for _, step := range []int{1, 2, 7, 4096} {
			h, n, read, err := follow(data, step)
			if err != nil || read != len(header) || n != read || text(h.Source) != c.source {
				t.Errorf("%s by %d: read %d of %d bytes: %+v, %d, %v", c.name, step, read, len(header), h, n, err)
			}
		}
	}
}

func TestAnErrorIsSeenAsSoonAsItCanBe(t *testing.T) {
	for _, start := range []string{"G", "PROXX", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "\rx", signature + "\x31", signature + "\x21\x11\xff\xff"} {
		if _, _, _, err := proxyproto.Parse([]byte(start)); err == nil {
			t.Errorf("%q can become no header", start)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range accepted {
		f.Add(append(full(c.header), "GET / HTTP/1.1\r\n"...))
	}
	// The example of section 2.2's text in the fewest bytes, and its neighbors.
	raw, err := hex.DecodeString("0d0a0d0a000d0a515549540a2111000c7f0000017f000001303901bb")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("PROXY TCP6 ::1 ::1 1 1\r\r\n"))
	f.Add([]byte(v2(0x21, 0x21, tcp6+"\x03\x00\x04\x00\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, n, more, err := proxyproto.Parse(data)
		if err != nil || more > 0 {
			if n != 0 || h != (proxyproto.Header{}) || err != nil && more != 0 {
				t.Fatalf("not parsed, but %+v, %d, %d, %v", h, n, more, err)
			}
			return
		}
		if n < proxyproto.MinSize || n > min(len(data), proxyproto.MaxSize) {
			t.Fatalf("a header of %d bytes in %d", n, len(data))
		}
		// Without what is behind it, it is the same; without its end, it is not
		// complete.
		if h2, n2, _, err := proxyproto.Parse(data[:n:n]); h2 != h || n2 != n || err != nil {
			t.Fatalf("alone: %+v, %d, %v", h2, n2, err)
		}
		if _, n2, more, err := proxyproto.Parse(data[: n-1 : n-1]); n2 != 0 || more != 1 || err != nil {
			t.Fatalf("cut: %d, %d more, %v", n2, more, err)
		}
		for _, step := range []int{1, 5, proxyproto.MaxSize} {
			if h2, _, read, err := follow(data, step); h2 != h || read != n || err != nil {
				t.Fatalf("by %d: %d bytes read of %d: %+v, %v", step, read, n, h2, err)
			}
		}
		again := serialize(h.Version, h.Source, h.Destination)
		if h2, n2, _, err := proxyproto.Parse(again); h2 != h || n2 != len(again) || err != nil {
			t.Fatalf("%q means %+v, but written again as %q it means %+v, %v", data[:n], h, again, h2, err)
		}
	})
}
