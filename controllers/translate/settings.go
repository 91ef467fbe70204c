package translate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// What holds where neither the rule nor its class says anything. There is no
// bound on the whole request: it would cut honest large transfers.
var (
	builtInTimeouts = plan.Timeouts{
		Connect: 3 * time.Second, ResponseHeader: 60 * time.Second,
		RequestBodyIdle: 15 * time.Second, ResponseBodyIdle: 60 * time.Second, StreamIdle: time.Hour,
	}
	builtInLimits = plan.Limits{MaxRequestBodyBytes: 16 << 20, MinRequestBodyRate: 240}
)

// timeouts takes the stanza of the rule, else that of the class, else the
// built-in one. Within a stanza absent fields have their built-in value. With an
// error come the built-in ones.
func timeouts(rule, class *v1alpha1.Timeouts, className string) (plan.Timeouts, error) {
	stanza, inherited := rule, rule == nil
	if inherited {
		stanza = class
	}
	out := builtInTimeouts
	if stanza == nil {
		return out, nil
	}
	for _, f := range []struct {
		name string
		from *v1alpha1.Duration
		to   *time.Duration
	}{
		{"request", stanza.Request, &out.Request},
		{"backendRequest", stanza.BackendRequest, &out.BackendRequest},
		{"connect", stanza.Connect, &out.Connect},
		{"responseHeader", stanza.ResponseHeader, &out.ResponseHeader},
		{"requestBodyIdle", stanza.RequestBodyIdle, &out.RequestBodyIdle},
		{"responseBodyIdle", stanza.ResponseBodyIdle, &out.ResponseBodyIdle},
		{"streamIdle", stanza.StreamIdle, &out.StreamIdle},
	} {
		if f.from == nil {
			continue
		}
		d, err := parseDuration(string(*f.from))
		if err != nil {
			return builtInTimeouts, fmt.Errorf("%stimeouts.%s: %w", defaultsOf(className, inherited), f.name, err)
		}
		*f.to = d
	}
	return out, nil
}

// limits is like timeouts.
func limits(rule, class *v1alpha1.Limits, className string) (plan.Limits, error) {
	stanza, inherited := rule, rule == nil
	if inherited {
		stanza = class
	}
	out := builtInLimits
	if stanza == nil {
		return out, nil
	}
	for _, f := range []struct {
		name string
		from *v1alpha1.ByteSize
		to   *int64
	}{
		{"maxRequestBodyBytes", stanza.MaxRequestBodyBytes, &out.MaxRequestBodyBytes},
		{"maxResponseBodyBytes", stanza.MaxResponseBodyBytes, &out.MaxResponseBodyBytes},
	} {
		if f.from == nil {
			continue
		}
		n, err := parseByteSize(*f.from)
		if err != nil {
			return builtInLimits, fmt.Errorf("%slimits.%s: %w", defaultsOf(className, inherited), f.name, err)
		}
		*f.to = n
	}
	for _, f := range []struct {
		name string
		from *int32
		to   func(n int32)
	}{
		{"minRequestBodyRate", stanza.MinRequestBodyRate, func(n int32) { out.MinRequestBodyRate = int64(n) }},
		{"maxInFlight", stanza.MaxInFlight, func(n int32) { out.MaxInFlight = uint32(n) }},
	} {
		if f.from == nil {
			continue
		}
		if *f.from < 0 {
			return builtInLimits, fmt.Errorf("%slimits.%s: %d is negative", defaultsOf(className, inherited), f.name, *f.from)
		}
		f.to(*f.from)
	}
	return out, nil
}

// defaultsOf begins the path of a field that a rule has from its class.
func defaultsOf(className string, inherited bool) string {
	if !inherited {
		return ""
	}
	return fmt.Sprintf("ProxyClass %s: defaults.", quote(className))
}

// parseDuration reads a Gateway API duration (GEP-2257): one to four of
// <integer of up to five digits> and h, m, s or ms.
func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration such as 1m30s or 250ms", quote(s))
	var total time.Duration
	rest := s
	for terms := 0; rest != ""; terms++ {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits > 5 || terms == 4 {
			return 0, bad
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			return 0, bad
		}
		unit, size := durationUnit(rest[digits:])
		if size == 0 {
			return 0, bad
		}
		total += time.Duration(n) * unit
		rest = rest[digits+size:]
	}
	if s == "" {
		return 0, bad
	}
	return total, nil
}

// durationUnit reads the unit that s begins with; its length is 0 when there is
// none.
func durationUnit(s string) (unit time.Duration, length int) {
	switch {
	case strings.HasPrefix(s, "ms"):
		return time.Millisecond, 2
	case strings.HasPrefix(s, "s"):
		return time.Second, 1
	case strings.HasPrefix(s, "m"):
		return time.Minute, 1
	case strings.HasPrefix(s, "h"):
		return time.Hour, 1
	default:
		return 0, 0
	}
}

// byteUnits are the suffixes of a ByteSize, longest first.
var byteUnits = []struct {
	suffix string
	bytes  int64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
}

// parseByteSize reads a number of bytes: an integer, or digits with a suffix.
func parseByteSize(v v1alpha1.ByteSize) (int64, error) {
	if v.Type == intstr.Int {
		if v.IntVal < 0 {
			return 0, fmt.Errorf("%d is negative", v.IntVal)
		}
		return int64(v.IntVal), nil
	}
	digits, unit := v.StrVal, int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(v.StrVal, u.suffix); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of bytes such as 1048576 or 16Mi", quote(v.StrVal))
	}
	if int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%s is more than 2^63-1 bytes", quote(v.StrVal))
	}
	return int64(n) * unit, nil
}
