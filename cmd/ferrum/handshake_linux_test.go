package main

import (
	wire "encoding/binary"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel gives a handshake to one of the listeners of a port when it begins. A
// process that was replaced reset those that were under way when it closed its
// listener: as many as begin within a round trip, half of which were its own.
func TestHandshakesThatAreUnderWayOutliveTheProcessThatIsReplaced(t *testing.T) {
	if !alone(t) {
		return
	}
	far := newFarHost(t)
	if far == nil {
		return
	}
	dir := newManifestDir(t, map[string]string{"site.yaml": oneRoute("a.example.com", backend(t, "here"))})
	args := []string{"--manifests", string(dir), "--http", far.near.String(), "--admin", "127.0.0.1:0", "--drain-delay", "2s"}
	old := startExactly(t, args...).ready()
	startExactly(t, args...).ready()
	old.signal(syscall.SIGTERM)
	old.log.wait(t, "it yields", func(l entry) bool {
		return l["msg"] == "new connections go to another process that shares the address"
	})
	const clients = 32
	for port := range uint16(clients) {
		far.send(t, port, synFlag, "")
		far.wait(t, port, synFlag|ackFlag)
	}
	if code := old.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for port := range uint16(clients) {
		far.send(t, port, ackFlag, "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n")
		if answer := far.wait(t, port, ackFlag); !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") {
			t.Errorf("client %d got %q", port, answer)
		}
	}
}

// Flags of TCP.
const synFlag, rstFlag, ackFlag = 0x02, 0x04, 0x10

// farHost is a host behind a link, of which the test is both: it sends and reads the
// packets one by one. Its clients are numbered, and their ports follow from that.
type farHost struct {
	tun       *os.File
	addr      netip.Addr
	near      netip.AddrPort
	sequences map[uint16]*sequence // by client
}

// sequence is where a connection of a client stands.
type sequence struct{ next, expected uint32 }

// newFarHost makes the link; nil: there is no device for that.
func newFarHost(t *testing.T) *farHost {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Logf("left out: it needs a link of its own, and opening /dev/net/tun fails: %v", err)
		return nil
	}
	h := &farHost{addr: netip.MustParseAddr("10.9.0.2"), near: netip.MustParseAddrPort("10.9.0.1:8080"), sequences: make(map[uint16]*sequence)}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(control)
	set := func(fd int, request uint, value func(link *unix.Ifreq) error) {
		t.Helper()
		link, err := unix.NewIfreq("far0")
		if err == nil {
			err = value(link)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flags := func(f uint16) func(*unix.Ifreq) error {
		return func(link *unix.Ifreq) error { link.SetUint16(f); return nil }
	}
	address := func(a ...byte) func(*unix.Ifreq) error {
		return func(link *unix.Ifreq) error { return link.SetInet4Addr(a) }
	}
	set(fd, unix.TUNSETIFF, flags(unix.IFF_TUN|unix.IFF_NO_PI))
	set(control, unix.SIOCSIFADDR, address(10, 9, 0, 1))
	set(control, unix.SIOCSIFNETMASK, address(255, 255, 255, 0))
	set(control, unix.SIOCSIFFLAGS, flags(unix.IFF_UP|unix.IFF_RUNNING))
	h.tun = os.NewFile(uintptr(fd), "/dev/net/tun")
	t.Cleanup(func() { _ = h.tun.Close() })
	return h
}

const firstPort = 20000

// send sends a segment of a client.
func (h *farHost) send(t *testing.T, client uint16, flags byte, data string) {
	t.Helper()
	s := h.sequences[client]
	if s == nil {
		s = new(sequence)
		h.sequences[client] = s
	}
	src, dst := h.addr.As4(), h.near.Addr().As4()
	tcp := wire.BigEndian.AppendUint16(nil, firstPort+client)
	tcp = wire.BigEndian.AppendUint16(tcp, h.near.Port())
	tcp = wire.BigEndian.AppendUint32(tcp, s.next)
	tcp = wire.BigEndian.AppendUint32(tcp, s.expected)
	tcp = append(tcp, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0) // no options, a window, no checksum yet
	tcp = append(tcp, data...)
	pseudo := append(append(src[:], dst[:]...), 0, unix.IPPROTO_TCP, byte(len(tcp)>>8), byte(len(tcp)))
	wire.BigEndian.PutUint16(tcp[16:], internetChecksum(append(pseudo, tcp...)))

	ip := []byte{4<<4 | 5, 0, byte((20 + len(tcp)) >> 8), byte(20 + len(tcp)), 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}
	ip = append(append(ip, src[:]...), dst[:]...)
	wire.BigEndian.PutUint16(ip[10:], internetChecksum(ip))
	if _, err := h.tun.Write(append(ip, tcp...)); err != nil {
		t.Fatal(err)
	}
	s.next += uint32(len(data))
	if flags&synFlag != 0 {
		s.next++
	}
}

// wait reads until there is a segment for a client with these flags and, unless it is
// of a handshake, with data, which it returns. A reset ends it.
func (h *farHost) wait(t *testing.T, client uint16, flags byte) (data string) {
	t.Helper()
	_ = h.tun.SetReadDeadline(time.Now().Add(patience))
	packet := make([]byte, 64<<10)
	for {
		n, err := h.tun.Read(packet)
		if err != nil {
			t.Fatalf("client %d: %v", client, err)
		}
		p := packet[:n]
		if p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP {
			continue
		}
		tcp := p[int(p[0]&15)*4:]
		data := tcp[int(tcp[12]>>4)*4:]
		got := tcp[13] & (synFlag | rstFlag | ackFlag)
		switch {
		case wire.BigEndian.Uint16(tcp[2:]) != firstPort+client:
		case got&rstFlag != 0:
			return "a reset"
		case got == flags && (flags&synFlag != 0 || len(data) > 0):
			h.sequences[client].expected = wire.BigEndian.Uint32(tcp[4:]) + 1
			return string(data)
		}
	}
}

// internetChecksum is that of RFC 1071.
func internetChecksum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i&1))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
