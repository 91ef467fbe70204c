package http1

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestKindHashHasNoCollisions(t *testing.T) {
	seen := map[uint8]string{}
	for _, e := range names {
		h := kindHash([]byte(e.name))
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s share slot %d: search new factors for kindHash", e.name, other, h)
		}
		seen[h] = e.name
	}
}

func TestKindsAreKnownInEveryLetterCase(t *testing.T) {
	for _, e := range names {
		for range 20 {
			name := []byte(e.name)
			for i := range name {
				if rand.IntN(2) == 0 {
					name[i] = strings.ToUpper(string(name[i]))[0]
				}
			}
			if got := kindOf(name); got != e.kind {
				t.Errorf("%s: got kind %d, want %d", name, got, e.kind)
			}
		}
	}
}

func TestNamesThatAreNearlyKnownAreUnknown(t *testing.T) {
	for _, e := range names {
		for i := range len(e.name) {
			for _, c := range []byte("\x0d\x01!_.~xX-@09[") {
				if c|0x20 == e.name[i]|0x20 {
					continue
				}
				name := []byte(e.name)
				name[i] = c
				if tokenClass[c] == 0 {
					continue
				}
				if got := kindOf(name); got == e.kind && got != Content && got != XForwardedOther {
					t.Errorf("%q has the kind of %s", name, e.name)
				}
			}
		}
		if got := kindOf([]byte(e.name + "x")); got == e.kind {
			t.Errorf("%sx has the kind of %s", e.name, e.name)
		}
		if got := kindOf([]byte(e.name[1:])); got == e.kind && e.kind != Control {
			t.Errorf("%s has the kind of %s", e.name[1:], e.name)
		}
	}
}

func TestFamiliesOfNamesHaveOneKind(t *testing.T) {
	for name, want := range map[string]Kind{
		"Content-Type": Content, "content-": Content, "Contents": Unknown, "If-None-Match": Conditional, "Iffy": Unknown,
		"X-Forwarded": XForwardedOther, "x-forwarded-ssl": XForwardedOther, "X-FORWARDED-FORX": XForwardedOther, "X-Forward": Unknown,
		"X": Unknown, "i": Unknown, "c": Unknown,
	} {
		if got := kindOf([]byte(name)); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestSetsOfKindsHoldWhatTheyAreMadeOf(t *testing.T) {
	s := Kinds(Host, Unknown, kindCount-1)
	for k := range kindCount {
		if want := k == Host || k == Unknown || k == kindCount-1; s.Has(k) != want {
			t.Errorf("kind %d: got %t", k, s.Has(k))
		}
	}
	if kindCount > 64 {
		t.Errorf("%d kinds do not fit into a KindSet", kindCount)
	}
}

func TestHopByHopFieldsAreDropped(t *testing.T) { // statement 18
	const hop = "Connection: x-gone, , X-GONE-TOO\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n" +
		"Upgrade: foo\r\nHTTP2-Settings: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nproxy-authentication-info: x\r\n" +
		"X-Gone: 1\r\nx-gone-too: 2\r\nX-Gone: 3\r\nTrailer: X-T\r\nX-Stays: 4\r\n"
	r := mustParseRequest(t, "GET / HTTP/1.1\r\nHost: a\r\n"+hop+"\r\n")
	if got := fieldNames(r.Fields, false); got != "Host X-Stays" {
		t.Errorf("request keeps %s", got)
	}
	s := mustParseResponse(t, "HTTP/1.1 200 OK\r\n"+hop+"Content-Length: 0\r\n\r\n")
	if got := fieldNames(s.Fields, false); got != "X-Stays Content-Length" {
		t.Errorf("response keeps %s", got)
	}
	for list, want := range map[string]string{"X-T, x-u": "Host Trailer", "X-T, Content-Length": "Host", "X-T,,": "Host"} {
		r = mustParseRequest(t, post+"Transfer-Encoding: chunked\r\nTrailer: "+list+"\r\n\r\n")
		if got := fieldNames(r.Fields, false); got != want {
			t.Errorf("chunked request with trailers %s keeps %s", list, got)
		}
	}
}

// A client that could take fields away from the endpoint by naming them in
// Connection could pass for someone else, or hide where it came from.
func TestConnectionCannotRemoveWhatOthersDependOn(t *testing.T) { // statement 19
	for _, name := range []string{
		"Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Server", "X-Forwarded-Ssl", "Forwarded", "X-Real-IP", "X-Request-ID", "Authorization", "Cookie", "Via",
		"Content-Type", "Content-Encoding", "User-Agent", "Origin", "Range", "If-Match", "Date", "Max-Forwards",
	} {
		for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ToLower(name[:1]) + strings.ToUpper(name[1:])} {
			for _, list := range []string{spelt, "close, " + spelt, spelt + ",\tx"} {
				msg := "GET / HTTP/1.1\r\nConnection: " + list + "\r\n"
				if name != "Host" {
					msg += "Host: a\r\n"
				}
				r := mustParseRequest(t, msg+name+": b\r\nX: y\r\n\r\n")
				if got := fieldNames(r.Fields, false); !strings.Contains(got, name) {
					t.Errorf("Connection: %s removes it: %s stays", list, got)
				}
			}
		}
	}
	r := mustParseRequest(t, post+"Content-Length: 3\r\nConnection: content-length\r\n\r\n")
	if r.ContentLength != 3 || !strings.Contains(fieldNames(r.Fields, false), "Content-Length") {
		t.Error("Connection removes Content-Length")
	}
	s := mustParseResponse(t, "HTTP/1.1 200 OK\r\nConnection: set-cookie, Content-Length, www-authenticate\r\nSet-Cookie: a\r\nWWW-Authenticate: b\r\nContent-Length: 3\r\n\r\n")
	if got := fieldNames(s.Fields, false); got != "Set-Cookie WWW-Authenticate Content-Length" {
		t.Errorf("response keeps %s", got)
	}
}

func TestNamesThatBackendsMistakeForOthersAreDropped(t *testing.T) { // statements 20 and 21
	for _, name := range []string{
		"X_Forwarded_For", "X-Forwarded_For", "x_real-ip", "Content_Length", "TRANSFER_ENCODING", "_", "my_header", "X.Forwarded.For",
		"X-Real.IP", "Transfer!Encoding", "content.length", "X~Request~ID", "x-forwarded.ssl", "content.type",
	} {
		r := mustParseRequest(t, "GET / HTTP/1.1\r\nHost: a\r\n"+name+": 1\r\n\r\n")
		if got := fieldNames(r.Fields, true); got != name {
			t.Errorf("%s is forwarded", name)
		}
	}
	for _, name := range []string{"My.Header", "X-A!", "x.y", "sec.fetch", "a.name.that.is.longer.than.all.names.that.the.proxy.knows"} {
		r := mustParseRequest(t, "GET / HTTP/1.1\r\nHost: a\r\n"+name+": 1\r\n\r\n")
		if got := fieldNames(r.Fields, true); got != "" {
			t.Errorf("%s is dropped", name)
		}
	}
	s := mustParseResponse(t, "HTTP/1.1 200 OK\r\nmy_header: 1\r\n\r\n")
	if got := fieldNames(s.Fields, false); got != "my_header" {
		t.Error("a response's my_header is dropped")
	}
}
