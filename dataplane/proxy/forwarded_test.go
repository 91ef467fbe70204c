package proxy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// aliases are fields that say who the client is, or that some backend reads so,
// in the spellings that CGI and its heirs cannot tell apart.
func aliases() (names []string) {
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
		"X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded", "X-Forwarded-By", "X-Forwarded-Client-Cert", "Forwarded", "X-Real-IP",
	} {
		names = append(names, name, strings.ToLower(name), strings.ToUpper(name))
		if strings.Contains(name, "-") {
			names = append(names, strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "."))
		}
	}
	return names
}

// echoHeader answers with all of the header as the backend has read it.
func echoHeader(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.Header {
		fmt.Fprintf(w, "%s=%s\n", name, strings.Join(values, "|"))
	}
}

// forwarded returns what a backend is told of the client, as lines name=value.
func forwarded(body string) (lines []string) {
	for line := range strings.Lines(body) {
		name, _, _ := strings.Cut(line, "=")
		if plain := strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name)); strings.HasPrefix(plain, "x-forwarded") || plain == "forwarded" || plain == "x-real-ip" {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

// plain is what a backend is told when nobody speaks for the client.
var plain = []string{
	"Forwarded=for=192.0.2.1;proto=http;host=shop.example.com", "X-Forwarded-For=192.0.2.1", "X-Forwarded-Host=shop.example.com",
	"X-Forwarded-Proto=http", "X-Real-Ip=192.0.2.1",
}

func TestWhoTheClientIsCannotBeSpoofedInAnySpelling(t *testing.T) {
	notTheClient := proxy.Prefixes{netip.MustParsePrefix("10.0.0.0/8")}
	inTrustingBubble(t, notTheClient, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echoHeader)
		b.apply(onePool(backendAddr))
		c := b.dial()
		for _, name := range aliases() {
			for _, value := range []string{"6.6.6.6", "https", "evil.example.com", "443", "for=6.6.6.6;proto=https", ""} {
				for _, connection := range []string{"", name, "X-Forwarded-For, forwarded, x-real-ip"} {
					a := c.get("GET / HTTP/1.1", shopHost, name+": "+value, name+": "+value, "Connection: "+connection)
					if got := forwarded(a.body); a.StatusCode != 200 || !slices.Equal(got, plain) {
						t.Fatalf("%s: %q, Connection: %q: %d, the backend is told %q", name, value, connection, a.StatusCode, got)
					}
					if r := b.sink.last(t); r.Client.Addr().String() != "192.0.2.1" || r.Client.Port() == 0 {
						t.Fatalf("%s: the record has client %s", name, r.Client)
					}
				}
			}
		}
	})
}

// trusting is a bed whose clients are trusted, as is 10.0.0.0/8.
func trusting(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Helper()
	trusted := proxy.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:a::/48")}
	inTrustingBubble(t, trusted, func(t *testing.T, b *bed) {
		b.httpBackend(backendAddr, echoHeader)
		b.apply(onePool(backendAddr))
		f(t, b)
	})
}

func TestTheClientBehindATrustedProxyIsTheLastThatIsNotTrusted(t *testing.T) {
	trusting(t, func(t *testing.T, b *bed) {
		c := b.dial()
		for _, tc := range []struct {
			name   string
			chain  []string // X-Forwarded-For fields
			client string   // "" = the peer
		}{
			{"nothing", nil, ""},
			{"an empty field", []string{""}, ""},
			{"one", []string{"203.0.113.1"}, "203.0.113.1"},
			{"what the client made up stands before it", []string{"6.6.6.6, 203.0.113.1"}, "203.0.113.1"},
			{"trusted proxies behind it", []string{"6.6.6.6, 203.0.113.1, 10.0.0.1,10.0.0.2"}, "203.0.113.1"},
			{"in two fields", []string{"6.6.6.6", "203.0.113.1, 10.0.0.1", "10.0.0.2"}, "203.0.113.1"},
			{"all trusted: the first", []string{"10.0.0.3, 10.0.0.1"}, "10.0.0.3"},
			{"empty entries", []string{"203.0.113.1, , ,\t10.0.0.1,"}, "203.0.113.1"},
			{"IPv6", []string{"6.6.6.6, 2001:db8::7"}, "2001:db8::7"},
			{"a trusted IPv6 proxy", []string{"2001:db8::7, 2001:db8:a::1"}, "2001:db8::7"},
			{"IPv6 in brackets", []string{"[2001:db8::7]"}, "2001:db8::7"},
			{"IPv4 in IPv6", []string{"6.6.6.6, ::ffff:203.0.113.1, ::ffff:10.0.0.1"}, "203.0.113.1"},
			{"with a port", []string{"203.0.113.1:4711, 10.0.0.1:80"}, "203.0.113.1:4711"},
			{"IPv6 with a port", []string{"[2001:db8::7]:4711"}, "[2001:db8::7]:4711"},
			{"no address ends it at what is known", []string{"203.0.113.1, unknown, 10.0.0.1"}, "10.0.0.1"},
			{"no address at all", []string{"203.0.113.1, _hidden"}, ""},
			{"a zone", []string{"203.0.113.1, fe80::1%eth0"}, ""},
			{"zeros in front", []string{"203.0.113.1, 10.0.0.01"}, ""},
			{"a port that is none", []string{"203.0.113.1, 10.0.0.1:0"}, ""},
			{"brackets around IPv4", []string{"203.0.113.1, [10.0.0.1]"}, ""},
			{"brackets that do not end", []string{"203.0.113.1, [2001:db8:a::1"}, ""},
			{"something behind brackets", []string{"203.0.113.1, [2001:db8:a::1]80"}, ""},
			{"quotes", []string{`203.0.113.1, "10.0.0.1"`}, ""},
			{"very long", []string{"203.0.113.1, " + strings.Repeat("1", 4000)}, ""},
		} {
			lines := []string{"GET / HTTP/1.1", shopHost, "X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6"}
			for _, x := range tc.chain {
				lines = append(lines, "X-Forwarded-For: "+x)
			}
			a := c.get(lines...)
			r := b.sink.last(t)
			client, _ := netip.ParseAddrPort(tc.client)
			if !client.IsValid() && tc.client != "" {
				client = netip.AddrPortFrom(netip.MustParseAddr(tc.client), 0)
			}
			if tc.client == "" {
				client = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), r.Client.Port())
			}
			if r.Client != client || tc.client == "" && r.Client.Port() == 0 {
				t.Errorf("%s: the client is %s", tc.name, r.Client)
			}
			if want := "X-Real-Ip=" + client.Addr().String(); !slices.Contains(forwarded(a.body), want) {
				t.Errorf("%s: the backend is told %q, want %s", tc.name, forwarded(a.body), want)
			}
		}
	})
}

func TestATrustedProxyIsBelievedWhatMakesSense(t *testing.T) {
	const (
		xff   = "X-Forwarded-For=192.0.2.1"
		ip    = "X-Real-Ip=192.0.2.1"
		host  = "X-Forwarded-Host=shop.example.com"
		proto = "X-Forwarded-Proto=http"
		elem  = "for=192.0.2.1;proto=http;host=shop.example.com"
	)
	long := strings.TrimSuffix(strings.Repeat("203.0.113.1, ", 500), ", ") // 6,498 bytes
	trusting(t, func(t *testing.T, b *bed) {
		c := b.dial()
		for _, tc := range []struct {
			name   string
			fields []string
			want   []string // "-name": not that one
		}{
			{"nothing", nil, plain},
			{"the chain grows", []string{"X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2,10.0.0.1"}, []string{"X-Forwarded-For=1.1.1.1, 2.2.2.2,10.0.0.1, 192.0.2.1", "X-Real-Ip=2.2.2.2", host, proto}},
			{"https", []string{"X-Forwarded-Proto: https"}, []string{"X-Forwarded-Proto=https", xff, ip, host}},
			{"HTTPS", []string{"X-Forwarded-Proto: HTTPS"}, []string{"X-Forwarded-Proto=https"}},
			{"http", []string{"X-Forwarded-Proto: http"}, []string{proto}},
			{"another scheme", []string{"X-Forwarded-Proto: javascript"}, []string{proto}},
			{"two schemes", []string{"X-Forwarded-Proto: https, http"}, []string{proto}},
			{"a scheme twice", []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: https"}, []string{proto}},
			{"a host", []string{"X-Forwarded-Host: www.example.com:8443"}, []string{"X-Forwarded-Host=www.example.com:8443", "Forwarded=" + elem}},
			{"an IPv6 host", []string{"X-Forwarded-Host: [2001:db8::1]:8443"}, []string{"X-Forwarded-Host=[2001:db8::1]:8443"}},
			{"a host with a path", []string{"X-Forwarded-Host: www.example.com/x"}, []string{host}},
			{"a host with user information", []string{"X-Forwarded-Host: a@b"}, []string{host}},
			{"two hosts", []string{"X-Forwarded-Host: a, b"}, []string{host}},
			{"a host twice", []string{"X-Forwarded-Host: a", "X-Forwarded-Host: b"}, []string{host}},
			{"an empty host", []string{"X-Forwarded-Host:"}, []string{host}},
			{"a port", []string{"X-Forwarded-Port: 8443"}, []string{"X-Forwarded-Port=8443"}},
			{"a port that is none", []string{"X-Forwarded-Port: 65536"}, []string{"-X-Forwarded-Port"}},
			{"two ports", []string{"X-Forwarded-Port: 1", "X-Forwarded-Port: 2"}, []string{"-X-Forwarded-Port"}},
			{"Forwarded grows", []string{"Forwarded: for=1.1.1.1;proto=https", `Forwarded: for="[::1]", for=_x`}, []string{`Forwarded=for=1.1.1.1;proto=https, for="[::1]", for=_x, ` + elem}},
			{"a string with a quote", []string{`Forwarded: for="a\"b"`}, []string{`Forwarded=for="a\"b", ` + elem}},
			{"a string that does not end", []string{`Forwarded: for="1.1.1.1`}, []string{"Forwarded=" + elem}},
			{"a string that does not end, with a quote", []string{`Forwarded: for="1.1.1.1\"`}, []string{"Forwarded=" + elem}},
			{"too much Forwarded", []string{"Forwarded: for=" + strings.Repeat("x", 4096)}, []string{"Forwarded=" + elem}},
			{"too long a chain loses its start", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: " + long},
				[]string{"X-Forwarded-For=" + strings.Repeat("203.0.113.1, ", 314) + "192.0.2.1", "X-Real-Ip=203.0.113.1"}},
			{"one entry that is too long", []string{"X-Forwarded-For: " + strings.Repeat("x", 5000)}, []string{xff, ip}},
			{"what nobody defined", []string{"X-Forwarded-Ssl: on", "X-Forwarded-Prefix: /a", "X-Forwarded-Server: a", "X-Forwarded: for=a"}, plain},
			{"Connection cannot take it away", []string{"X-Forwarded-For: 1.1.1.1", "Connection: x-forwarded-for, forwarded"}, []string{"X-Forwarded-For=1.1.1.1, 192.0.2.1"}},
		} {
			a := c.get(append([]string{"GET / HTTP/1.1", shopHost}, tc.fields...)...)
			got := forwarded(a.body)
			for _, w := range tc.want {
				name, absent := strings.CutPrefix(w, "-")
				if absent && strings.Contains(a.body, name) || !absent && !slices.Contains(got, w) {
					t.Errorf("%s: the backend is told %q, want %q", tc.name, got, tc.want)
					break
				}
			}
		}
	})
}

func TestOtherSpellingsOfATrustedProxyAreNotForwardedEither(t *testing.T) {
	trusting(t, func(t *testing.T, b *bed) {
		c := b.dial()
		for _, name := range aliases() {
			if !strings.ContainsAny(name, "_.") {
				continue
			}
			if got := forwarded(c.get("GET / HTTP/1.1", shopHost, name+": 6.6.6.6").body); !slices.Equal(got, plain) {
				t.Errorf("%s: the backend is told %q", name, got)
			}
		}
	})
}

func TestTheClientOfARequestIsNotThatOfTheOneBefore(t *testing.T) {
	trusting(t, func(t *testing.T, b *bed) {
		c := b.dial()
		for i, request := range []string{"GET / HTTP/1.1\r\n" + shopHost + "\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n", "GET / HTTP/1.1\r\n" + shopHost + "\r\n\r\n", "GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"} {
			c.send(request)
			_ = c.read("GET")
			want := []string{"203.0.113.1", "192.0.2.1", "192.0.2.1"}[i]
			if r := b.sink.last(t); r.Client.Addr().String() != want {
				t.Errorf("request %d: the client is %s, want %s", i, r.Client, want)
			}
		}
	})
}

// FuzzForwardedFor: whatever a trusted proxy says, one client is found and what
// is passed on of the chain ends in the proxy's own address.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"203.0.113.1, 10.0.0.1", "[2001:db8::7]:4711,::ffff:10.0.0.1", "1.2.3.4:5, unknown", ", ,", "[", ":", "[]:1", strings.Repeat("10.0.0.1,", 500)} {
		f.Add(s)
	}
	trust := proxy.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7f }) || len(value) > 16<<10 {
			return // the parser of heads refuses it
		}
		inTrustingBubble(t, trust, func(t *testing.T, b *bed) {
			b.httpBackend(backendAddr, echoHeader)
			b.apply(onePool(backendAddr))
			a := b.dial().get("GET / HTTP/1.1", shopHost, "X-Forwarded-For: "+value)
			r := b.sink.last(t)
			if !r.Client.IsValid() || !slices.Contains(forwarded(a.body), fmt.Sprintf("X-Real-Ip=%s", r.Client.Addr())) {
				t.Fatalf("the client is %s, the backend is told %q", r.Client, forwarded(a.body))
			}
			if !slices.ContainsFunc(forwarded(a.body), func(l string) bool {
				return strings.HasPrefix(l, "X-Forwarded-For=") && (strings.HasSuffix(l, ", 192.0.2.1") || l == "X-Forwarded-For=192.0.2.1") && len(l) < 5000
			}) {
				t.Fatalf("the backend is told %q", forwarded(a.body))
			}
		})
	})
}
