package server_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// bed is a server whose handler reads a line, says whose the connection is and
// what the line was, and waits until the client closes.
type bed struct {
	t   *testing.T
	net *memnet.Network
	srv *server.Server
	mu  sync.Mutex
	log []string

	dialed []net.Conn
}

func newBed(t *testing.T, c server.Config) *bed {
	b := &bed{t: t, net: memnet.New()}
	c.HeaderTimeout = 10 * time.Second
	c.Log = funcr.New(func(_, line string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.log = append(b.log, line)
	}, funcr.Options{})
	b.srv = server.New(handler(func(nc net.Conn, life proxy.Life) {
		defer nc.Close()
		if !life.Idle() {
			return
		}
		_ = nc.SetReadDeadline(time.Time{}) // as a handler of its own deadlines
		line, _ := bufio.NewReader(nc).ReadString('\n')
		_, _ = io.WriteString(nc, life.Peer().Addr.String()+" "+line)
		_, _ = io.Copy(io.Discard, nc)
	}), c)
	go b.srv.Serve(b.net.Listen(front))
	return b
}

// inBubble runs a test of a bed, which has to end with no connection and nothing
// running.
func inBubble(t *testing.T, c server.Config, f func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, c)
		f(t, b)
		for _, c := range b.dialed {
			_ = c.Close()
		}
		synctest.Wait()
		if cut := b.srv.Drain(t.Context(), server.DrainTimes{Timeout: time.Minute, Upgraded: time.Minute}); cut != (server.Cut{}) || b.srv.Stats.Open.Load() != 0 {
			t.Errorf("%d cut, %d open at the end", cut, b.srv.Stats.Open.Load())
		}
	})
}

func (b *bed) dial() net.Conn {
	c, err := b.net.Dial(front)
	if err != nil {
		b.t.Fatal(err)
	}
	b.dialed = append(b.dialed, c)
	return c
}

// say sends pieces, each when the one before has been dealt with, and returns
// the line that is answered; "" when the connection ends without one.
func (b *bed) say(c net.Conn, pieces ...string) string {
	for _, p := range pieces {
		_, _ = io.WriteString(c, p) // when it fails, so does the read
		synctest.Wait()
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

// refused holds the counters of refusals against what they should be.
func (b *bed) refused(want map[server.Refusal]int64) {
	b.t.Helper()
	synctest.Wait()
	for i, name := range server.Refusals {
		if got := b.srv.Stats.Refused[i].Load(); got != want[server.Refusal(i)] {
			b.t.Errorf("%s: %d were refused, want %d", name, got, want[server.Refusal(i)])
		}
	}
}

func prefixes(all ...string) (p proxy.Prefixes) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

const (
	clients = "192.0.2.0/24" // where memnet's clients are
	v1      = "PROXY TCP4 203.0.113.7 192.0.2.80 4711 80\r\n"
	v2      = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x50\x12\x67\x00\x50"
	local   = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestAPROXYHeaderOfATrustedPeerSaysWhoTheClientIs(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes("10.0.0.0/8", clients)}, func(t *testing.T, b *bed) {
		for _, tc := range []struct{ name, header, client string }{
			{"version 1", v1, "203.0.113.7:4711"},
			{"version 1 of IPv6", "PROXY TCP6 2001:db8::7 2001:db8::80 4711 80\r\n", "[2001:db8::7]:4711"},
			{"version 1, unknown", "PROXY UNKNOWN\r\n", "192.0.2.1:"},
			{"version 2", v2, "203.0.113.7:4711"},
			{"version 2, local", local, "192.0.2.1:"},
		} {
			header, rest := tc.header, "GET / HTTP/1.1\n"
			for name, pieces := range map[string][]string{
				"at once": {header + rest}, "apart": {header, rest}, "in halves": {header[:9], header[9:] + rest}, "by bytes": strings.Split(header+rest, ""),
			} {
				c := b.dial()
				got := b.say(c, pieces...)
				if !strings.HasPrefix(got, tc.client) || !strings.HasSuffix(got, " "+rest) {
					t.Errorf("%s, %s: got %q", tc.name, name, got)
				}
				_ = c.Close()
			}
		}
		b.refused(nil)
		if len(b.log) != 0 {
			t.Errorf("logged: %q", b.log)
		}
	})
}

func TestAPROXYHeaderOfAnybodyElseIsNotRead(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes("10.0.0.0/8")}, func(t *testing.T, b *bed) {
		c := b.dial()
		if got := b.say(c, v1); !strings.HasPrefix(got, "192.0.2.1:") || !strings.HasSuffix(got, " "+v1) {
			t.Errorf("got %q", got)
		}
		_ = c.Close()
	})
}

func TestABadPROXYHeaderEndsTheConnectionWithoutAnAnswer(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes(clients)}, func(t *testing.T, b *bed) {
		bad := []string{"GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 nobody\r\n", "PROXY UNKNOWN" + strings.Repeat("x", 200), v2[:12] + "\x41" + v2[13:]}
		for _, header := range bad {
			c := b.dial()
			if got := b.say(c, header); got != "" {
				t.Errorf("%q: got %q", header, got)
			}
			_ = c.Close()
		}
		cut := b.dial()
		_, _ = io.WriteString(cut, v1[:20])
		_ = cut.Close()
		b.refused(map[server.Refusal]int64{server.BadHeader: 5})
		if len(b.log) != 1 || !strings.Contains(b.log[0], `"reason"="proxy_header"`) {
			t.Errorf("logged: %q, want one line", b.log)
		}
		time.Sleep(time.Minute)
		_ = b.say(b.dial(), bad[0])
		if len(b.log) != 2 || !strings.Contains(b.log[1], `"before"=4`) {
			t.Errorf("logged: %q, want a second line that counts those in between", b.log)
		}
	})
}

func TestAPeerThatOnlyLooksWhetherThePortIsOpenIsNotCounted(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes(clients)}, func(t *testing.T, b *bed) {
		_ = b.dial().Close()
		b.dial().(*memnet.Conn).Reset()
		b.refused(nil)
		if len(b.log) != 0 {
			t.Errorf("logged: %q", b.log)
		}
	})
}

func TestAPROXYHeaderHasTheTimeOfARequestsHead(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes(clients)}, func(t *testing.T, b *bed) {
		for _, start := range []string{"", v1[:30], v2[:20]} {
			c := b.dial()
			began := time.Now()
			if got := b.say(c, start); got != "" || time.Since(began) != 10*time.Second {
				t.Errorf("%q: got %q after %s", start, got, time.Since(began))
			}
			_ = c.Close()
		}
		b.refused(map[server.Refusal]int64{server.LateHeader: 3})
	})
}

func TestADrainDoesNotWaitLongForAPROXYHeader(t *testing.T) {
	inBubble(t, server.Config{ProxyProtocol: prefixes(clients)}, func(t *testing.T, b *bed) {
		c := b.dial()
		_, _ = io.WriteString(c, v1[:30])
		synctest.Wait()
		began := time.Now()
		b.srv.Drain(t.Context(), server.DrainTimes{Timeout: time.Minute, Upgraded: time.Minute})
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s, want what new connections have", took)
		}
		b.refused(nil)
	})
}

// refusal reads the answer to a connection that is turned away.
func refusal(t *testing.T, c net.Conn) (res *http.Response, body string) {
	t.Helper()
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still open: %q, %v", rest, err)
	}
	return res, string(data)
}

func TestConnectionsAboveTheLimitAreToldSoUntilOneEnds(t *testing.T) {
	inBubble(t, server.Config{MaxConnections: 3}, func(t *testing.T, b *bed) {
		held := []net.Conn{b.dial(), b.dial(), b.dial()}
		synctest.Wait()
		for range 5 {
			c := b.dial()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			res, body := refusal(t, c)
			if res.StatusCode != 503 || body != "503 max_connections\n" || !res.Close || res.Header.Get("Retry-After") != "1" {
				t.Errorf("got %d %q %v", res.StatusCode, body, res.Header)
			}
			_ = c.Close()
		}
		b.refused(map[server.Refusal]int64{server.TooManyConnections: 5})
		if open, accepted := b.srv.Stats.Open.Load(), b.srv.Stats.Accepted.Load(); open != 3 || accepted != 3 {
			t.Errorf("%d open, %d accepted, want 3 each", open, accepted)
		}
		_ = held[0].Close()
		synctest.Wait()
		c := b.dial()
		if got := b.say(c, "hello\n"); !strings.HasSuffix(got, " hello\n") {
			t.Errorf("after one has ended: got %q", got)
		}
		for _, c := range append(held, c) {
			_ = c.Close()
		}
	})
}

func TestClientsThatStayAfterARefusalAreClosed(t *testing.T) {
	inBubble(t, server.Config{MaxConnections: 1}, func(t *testing.T, b *bed) {
		held := b.dial()
		synctest.Wait()
		var stubborn []net.Conn
		for range 100 { // more than are waited for
			stubborn = append(stubborn, b.dial())
		}
		synctest.Wait()
		began := time.Now()
		for _, c := range stubborn {
			if res, _ := refusal(t, c); res.StatusCode != 503 {
				t.Errorf("got %d", res.StatusCode)
			}
		}
		for _, c := range stubborn {
			for { // until it is closed, not just half
				if _, err := io.WriteString(c, "x"); err != nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			_ = c.Close()
		}
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Errorf("they were kept for %s", took)
		}
		b.refused(map[server.Refusal]int64{server.TooManyConnections: 100})
		_ = held.Close()
	})
}

func TestTheLimitPerAddressIsForTheClientThatThePROXYHeaderNames(t *testing.T) {
	c := server.Config{ProxyProtocol: prefixes(clients), MaxConnectionsPerIP: 2, PerIPExempt: prefixes("198.51.100.0/24")}
	inBubble(t, c, func(t *testing.T, b *bed) {
		from := func(addr string) (net.Conn, string) {
			c := b.dial()
			got := b.say(c, "PROXY TCP4 "+addr+" 192.0.2.80 1 80\r\n", "hello\n")
			return c, got
		}
		one, _ := from("203.0.113.1")
		_, _ = from("203.0.113.1")
		if _, got := from("203.0.113.1"); got != "HTTP/1.1 503 Service Unavailable\r\n" {
			t.Errorf("the third of one address: got %q", got)
		}
		if _, got := from("203.0.113.2"); got != "203.0.113.2:1 hello\n" {
			t.Errorf("the first of another: got %q", got)
		}
		for range 5 {
			if _, got := from("198.51.100.9"); got != "198.51.100.9:1 hello\n" {
				t.Errorf("one that is exempt: got %q", got)
			}
		}
		b.refused(map[server.Refusal]int64{server.TooManyOfAddress: 1})
		_ = one.Close()
		synctest.Wait()
		if _, got := from("203.0.113.1"); got != "203.0.113.1:1 hello\n" {
			t.Errorf("after one has ended: got %q", got)
		}
	})
}

// With two for each, which were its own and one to an endpoint, large bodies took
// those of others for their pipes.
func TestTheDescriptorsAreEnoughForWhatAConnectionMayNeed(t *testing.T) {
	for descriptors, want := range map[uint64]int{0: 0, 1: 8, 32: 8, 64: 8, 1024: 248, 1 << 20: 262136, 1<<63 - 1: 0} {
		if got := server.ConnectionsFor(descriptors); got != want {
			t.Errorf("%d descriptors are for %d connections, want %d", descriptors, got, want)
		}
	}
}

// Descriptors for 262,136 connections, at some 6 KiB for one that does nothing, let
// two clients fill a container of 512 MiB with connections they only kept open.
func TestConnectionsThatDoNothingDoNotFillTheMemory(t *testing.T) {
	for _, c := range []struct {
		descriptors uint64
		memory      int64
		want        int
	}{
		{1 << 20, 460 << 20, 14720}, {1024, 460 << 20, 248}, {1 << 20, 0, 262136}, {0, 460 << 20, 14720}, {0, 0, 0}, {1 << 20, 1 << 10, 8},
	} {
		if got := server.Connections(c.descriptors, c.memory); got != c.want {
			t.Errorf("%d descriptors and %d bytes are for %d connections, want %d", c.descriptors, c.memory, got, c.want)
		}
	}
}

func TestAPortIsSharedOnlyWhenBothSidesWantThat(t *testing.T) {
	listen := func(addr string, shared bool) (net.Listener, error) {
		l, err := server.Listen(t.Context(), addr, shared)
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return l, err
	}
	one, err := listen("127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(one.Addr().String(), true); err != nil {
		t.Errorf("the second that shares: %v", err)
	}
	if _, err := listen(one.Addr().String(), false); err == nil {
		t.Error("one that does not share got the port of one that does")
	}
	alone, err := listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(alone.Addr().String(), true); err == nil {
		t.Error("one that shares got the port of one that does not")
	}
}

func TestLimitsThatChangeCountForConnectionsThatBeginLater(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, b *bed) {
		greeted := func(c net.Conn, header string) bool { return strings.HasSuffix(b.say(c, header+"hello\n"), " hello\n") }
		first, second := b.dial(), b.dial()
		if !greeted(first, "") || !greeted(second, "") {
			t.Fatal("not served")
		}
		c := server.Config{MaxConnections: 1, HeaderTimeout: 10 * time.Second}
		b.srv.Reconfigure(c)
		if greeted(b.dial(), "") {
			t.Error("a third connection is served while one may be open")
		}
		c.MaxConnections, c.MaxConnectionsPerIP = 0, 1
		b.srv.Reconfigure(c)
		third := b.dial()
		if !greeted(third, "") || greeted(b.dial(), "") {
			t.Error("not one more connection of the address is served")
		}
		c.MaxConnectionsPerIP = 2
		b.srv.Reconfigure(c)
		if !greeted(b.dial(), "") || greeted(b.dial(), "") {
			t.Error("not two connections of the address are served")
		}
		c.MaxConnectionsPerIP, c.ProxyProtocol = 0, prefixes(clients)
		b.srv.Reconfigure(c)
		if !greeted(b.dial(), v1) || greeted(b.dial(), "") {
			t.Error("a PROXY header is not asked for")
		}
		for _, open := range []net.Conn{first, second, third} {
			if _, err := io.WriteString(open, "more"); err != nil {
				t.Error("a connection that was open was closed")
			}
		}
	})
}
