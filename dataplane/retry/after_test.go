package retry

import (
	"testing"
	"time"
)

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(1994, 11, 6, 8, 49, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0":                              0,
		"120":                            2 * time.Minute,
		"007":                            7 * time.Second,
		"99999999999999999999999999":     maxRetryAfter,
		"Sun, 06 Nov 1994 08:49:37 GMT":  37 * time.Second,
		"Sunday, 06-Nov-94 08:49:37 GMT": 37 * time.Second,
		"Sun Nov  6 08:49:37 1994":       37 * time.Second,
		"Sun, 06 Nov 1994 08:48:37 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  maxRetryAfter,
	} {
		if got, ok := ParseRetryAfter([]byte(value), now); !ok || got != want {
			t.Errorf("%q: got %v, %t, want %v", value, got, ok, want)
		}
	}
	for _, value := range []string{"", " ", "-1", "+1", "1.5", "1s", "1 ", "0x10", "soon", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nov 1994"} {
		if got, ok := ParseRetryAfter([]byte(value), now); ok {
			t.Errorf("%q: got %v", value, got)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "99999999999999999999", "-1", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		wait, ok := ParseRetryAfter(value, noon)
		if wait < 0 || wait > maxRetryAfter || !ok && wait != 0 {
			t.Errorf("%q: %v, %t", value, wait, ok)
		}
		if later, again := ParseRetryAfter(value, noon.Add(time.Hour)); again != ok || later > wait {
			t.Errorf("%q: %v, an hour later %v, %t", value, wait, later, again)
		}
	})
}

func BenchmarkParseRetryAfter(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := ParseRetryAfter([]byte("120"), noon); !ok {
			b.Fatal("not understood")
		}
	}
}
