package upstream

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func FuzzHealthResponse(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x02\x08\x02",
		"\x01\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x06\x12\x02hi\x08\x01", "\x00\x00\x00\x00\x02\x08\xff", "\x00\x00\x00\x00\x01\x0a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		status, err := parseHealth(b)
		if err != nil && !errors.Is(err, errHealthResponse) || err != nil && status != 0 && status == servingStatus && len(b) < 7 {
			t.Errorf("%d, %v", status, err)
		}
		if !bytes.Equal(b, before) {
			t.Error("the answer was changed")
		}
	})
}

func TestHealthResponsesAreRead(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want uint64
		ok   bool
	}{
		{"\x00\x00\x00\x00\x00", 0, true}, // UNKNOWN is not written
		{"\x00\x00\x00\x00\x02\x08\x01", 1, true},
		{"\x00\x00\x00\x00\x06\x12\x02hi\x08\x01", 1, true}, // with a field of the future
		{"\x01\x00\x00\x00\x02\x08\x01", 0, false},          // compressed
		{"\x00\x00\x00\x00\x03\x08\x01", 0, false},          // cut
		{"\x00\x00\x00\x00\x02\x08\xff", 0, false},
		{"", 0, false},
	} {
		got, err := parseHealth([]byte(tc.in))
		if (err == nil) != tc.ok || err == nil && got != tc.want {
			t.Errorf("%q: %d, %v", tc.in, got, err)
		}
	}
}

func TestAWindowSlidesAndForgets(t *testing.T) {
	w := newWindow(10 * time.Second)
	at := func(s float64) int64 { return int64(s * float64(time.Second)) }
	for range 7 {
		w.add(at(0.5), true)
	}
	for range 3 {
		w.add(at(5), false)
	}
	want := func(s float64, all, failed uint64) {
		t.Helper()
		if a, f := w.sum(at(s)); a != all || f != failed {
			t.Errorf("at %v s: %d of %d, want %d of %d", s, f, a, failed, all)
		}
	}
	want(5, 10, 7)
	want(9.9, 10, 7)
	want(10.1, 3, 0)
	want(15.1, 0, 0)
	w.add(at(20.5), true) // in the bucket that 0.5 had
	want(20.6, 1, 1)
	w.clear()
	want(20.6, 0, 0)
}

func TestAWindowCountsEachOutcomeOnceWhoeverAdds(t *testing.T) {
	w := newWindow(time.Second)
	done := make(chan struct{})
	const each, adders = 20_000, 8
	for i := range adders {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				w.add(7, i%2 == 0)
			}
		}()
	}
	for range adders {
		<-done
	}
	if all, failed := w.sum(7); all != each*adders || failed != each*adders/2 {
		t.Errorf("%d of %d", failed, all)
	}
}
