package translate

import (
	"math"
	"regexp"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// schemaDuration is the pattern of the CRD for durations.
var schemaDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func TestDurationsAreThoseOfTheSchema(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0s":                       0,
		"250ms":                    250 * time.Millisecond,
		"1h30m":                    90 * time.Minute,
		"1m1m":                     2 * time.Minute,
		"99999h99999h99999h99999h": 4 * 99999 * time.Hour,
		"1h2m3s4ms":                time.Hour + 2*time.Minute + 3*time.Second + 4*time.Millisecond,
		"":                         -1, "s": -1, "1": -1, "1d": -1, "1.5s": -1, "-1s": -1, "+1s": -1, "1 s": -1, "100000s": -1,
		"1s1s1s1s1s": -1, "1us": -1, "1sm": -1, "١s": -1,
	} {
		got, err := parseDuration(s)
		if want == -1 {
			if err == nil {
				t.Errorf("parseDuration(%q) = %v, want an error", s, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
}

// What the schema lets through is what is read, as the time package reads it.
func FuzzDurations(f *testing.F) {
	for _, s := range []string{"0s", "1h30m", "250ms", "1.5s", "100000s", "1m1m1m1m1m", "-1s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseDuration(s)
		if valid := schemaDuration.MatchString(s); valid != (err == nil) {
			t.Fatalf("parseDuration(%q) = %v, %v; the schema says %v", s, got, err, valid)
		}
		if err != nil {
			return
		}
		if want, err := time.ParseDuration(s); err != nil || got != want {
			t.Fatalf("parseDuration(%q) = %v, time.ParseDuration %v, %v", s, got, want, err)
		}
	})
}

func TestByteSizesHaveBinaryAndDecimalSuffixes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "16Mi": 16 << 20, "1Ki": 1024, "2Gi": 2 << 30, "1Ti": 1 << 40,
		"3k": 3000, "3M": 3e6, "3G": 3e9, "3T": 3e12, "8388607Ti": 8388607 << 40,
		"": -1, "Mi": -1, "1.5Mi": -1, "-1": -1, "+1": -1, "1mi": -1, "1K": -1, "1 Mi": -1, "1MiMi": -1,
		"8388608Ti": -1, "9223372036854775808": -1, "0x10": -1, "1_0": -1,
	} {
		got, err := parseByteSize(intstr.FromString(s))
		if want == -1 {
			if err == nil {
				t.Errorf("parseByteSize(%q) = %d, want an error", s, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("parseByteSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	if got, err := parseByteSize(intstr.FromInt32(math.MaxInt32)); err != nil || got != math.MaxInt32 {
		t.Errorf("the largest integer: %d, %v", got, err)
	}
	if got, err := parseByteSize(intstr.FromInt32(-1)); err == nil {
		t.Errorf("a negative integer: %d, want an error", got)
	}
}

func FuzzByteSizes(f *testing.F) {
	for _, s := range []string{"0", "16Mi", "999999999999999Ti", "1.5", "-3k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseByteSize(intstr.FromString(s)); n < 0 || err != nil && n != 0 {
			t.Fatalf("parseByteSize(%q) = %d, %v", s, n, err)
		}
	})
}
