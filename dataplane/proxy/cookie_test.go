package proxy

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestTheFirstCookieOfItsNameIsFound(t *testing.T) {
	for _, tc := range []struct {
		field, want string
		ok          bool
	}{
		{"a=1", "1", true},
		{"b=2; a=1; a=3", "1", true},
		{"b=2;a=1", "1", true},
		{"aa=2; ba=3", "", false},
		{"a", "", false},
		{"a=", "", true},
		{"a=x=y", "x=y", true},
		{"A=1", "", false},
		{`a="q"`, `"q"`, true},
		{"", "", false},
	} {
		got, ok := cookieIn([]byte(tc.field), "a")
		if string(got) != tc.want || ok != tc.ok {
			t.Errorf("%q: %q, %v", tc.field, got, ok)
		}
	}
}

// FuzzCookieIn holds the reader of cookies against net/http's, in what both take
// for one.
func FuzzCookieIn(f *testing.F) {
	for _, s := range []string{"a=1", "b=2; a=1", "a", ";;a=;", " a = 1 ", `a="x"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		got, ok := cookieIn([]byte(field), "a")
		if ok && (strings.ContainsRune(string(got), ';') || !strings.Contains(field, string(got))) {
			t.Errorf("%q: %q", field, got)
		}
		for part := range strings.SplitSeq(field, ";") {
			if !strings.Contains(part, "=") || strings.Contains(part, " =") || strings.Contains(part, "= ") {
				return // net/http has other views on these
			}
		}
		r := http.Request{Header: http.Header{"Cookie": {field}}}
		if want, err := r.Cookie("a"); err == nil && !want.Quoted && (!ok || string(got) != want.Value) && !strings.ContainsAny(field, "\t\r\n\v\f\"") {
			t.Errorf("%q: %q, %v; net/http finds %q", field, got, ok, want.Value)
		}
	})
}

func FuzzSessionOpen(f *testing.F) {
	s := compileSession(&plan.Session{Cookie: "a", Lifetime: time.Hour, Key: [32]byte{1}})
	now := time.Unix(1_800_000_000, 0)
	at := netip.MustParseAddrPort("10.0.0.1:80")
	var buf sessionText
	good := string(s.seal(nil, &buf, 42, at, now))
	f.Add(good)
	f.Add(good[:30])
	f.Add("")
	f.Add(strings.Repeat("A", 200))
	f.Fuzz(func(t *testing.T, value string) {
		leg, addr, ok := s.open([]byte(value), &buf, now)
		if ok && (leg != 42 || addr != at) {
			t.Errorf("%q was forged: %d %s", value, leg, addr)
		}
		if value == good && !ok {
			t.Error("what was sealed does not open")
		}
	})
}

func TestOpeningASessionAllocatesNothing(t *testing.T) {
	s := compileSession(&plan.Session{Cookie: "a", Key: [32]byte{1}})
	now := time.Now()
	var buf sessionText
	value := s.seal(nil, &buf, 42, netip.MustParseAddrPort("[2001:db8::1]:80"), now)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, ok := s.open(value, &buf, now); !ok {
			t.Fatal("it does not open")
		}
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestRetryAfterIsReadFromTheResponse(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, "86400": 24 * time.Hour, "999999999999999999999": 24 * time.Hour, "Fri, 31 Dec 1999 23:59:59 GMT": 0, "-1": 0, "": 0,
	} {
		var ex exchange
		if _, err := http1.ParseResponse([]byte("HTTP/1.1 503 x\r\nRetry-After: "+value+"\r\n\r\n"), &http1.DefaultLimits, &ex.res); err != nil {
			t.Fatal(err)
		}
		ex.now = time.Now()
		if got := ex.retryAfter(); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
