package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// sample is the record of a usual request.
func sample() *proxy.Record {
	return &proxy.Record{
		Start:          time.Date(2026, 3, 1, 23, 59, 59, 45_678_999, time.FixedZone("", 3600)),
		Duration:       12345678 * time.Nanosecond,
		Connect:        250 * time.Microsecond,
		UpstreamHeader: 11 * time.Millisecond,
		Rule:           proxy.RuleID{Namespace: "shop", Route: "web", Rule: "api"},
		Client:         netip.MustParseAddrPort("[::ffff:192.0.2.7]:50123"),
		Endpoint:       netip.MustParseAddrPort("[2001:db8::5]:8080"),
		Method:         []byte("GET"),
		Host:           []byte("shop.example.com"),
		Path:           []byte("/api/items"),
		Query:          []byte("page=2&q=a%20b"),
		UserAgent:      []byte("curl/8.9 (x86_64)"),
		RequestID:      []byte("0af7651916cd43dd8448eb211c80319c"),
		Proto:          "HTTP/1.1",
		Status:         200,
		Attempts:       1,
		BytesIn:        0,
		BytesOut:       1024,
	}
}

// malformed is the record of a request that could not be parsed.
func malformed() *proxy.Record {
	return &proxy.Record{
		Start:    time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Duration: 90 * time.Second,
		Client:   netip.MustParseAddrPort("198.51.100.1:1"),
		Status:   400,
		Reason:   proxy.ReasonMalformedRequest,
		Detail:   `header name "a b" is not a token`,
	}
}

func formatted(r *proxy.Record, jsonForm bool) string {
	l := &line{json: jsonForm}
	return string(l.format(r))
}

func TestALineNamesRouteRuleEndpointReasonAndDurations(t *testing.T) {
	for _, c := range []struct {
		name   string
		record *proxy.Record
		json   bool
		want   string
	}{
		{"answered, json", sample(), true, `{"time":"2026-03-01T22:59:59.045678Z","msg":"request",` +
			`"route":"shop/web","rule":"api","client":"192.0.2.7:50123","method":"GET","host":"shop.example.com",` +
			`"path":"/api/items","query":"page=2&q=a%20b","proto":"HTTP/1.1","status":200,"reason":"ok",` +
			`"endpoint":"[2001:db8::5]:8080","attempts":1,"duration_s":0.012345,"connect_s":0.000250,` +
			`"upstream_header_s":0.011000,"bytes_in":0,"bytes_out":1024,` +
			`"request_id":"0af7651916cd43dd8448eb211c80319c","user_agent":"curl/8.9 (x86_64)"}` + "\n"},
		{"answered, text", sample(), false, `time=2026-03-01T22:59:59.045678Z msg=request ` +
			`route=shop/web rule=api client=192.0.2.7:50123 method=GET host=shop.example.com ` +
			`path=/api/items query="page=2&q=a%20b" proto=HTTP/1.1 status=200 reason=ok ` +
			`endpoint=[2001:db8::5]:8080 attempts=1 duration_s=0.012345 connect_s=0.000250 ` +
			`upstream_header_s=0.011000 bytes_in=0 bytes_out=1024 ` +
			`request_id=0af7651916cd43dd8448eb211c80319c user_agent="curl/8.9 (x86_64)"` + "\n"},
		{"malformed, json", malformed(), true, `{"time":"2026-03-01T12:00:00.000000Z","msg":"request",` +
			`"client":"198.51.100.1:1","method":"","host":"","path":"","proto":"","status":400,` +
			`"reason":"malformed_request","side":"client","detail":"header name \"a b\" is not a token",` +
			`"attempts":0,"duration_s":90.000000,"bytes_in":0,"bytes_out":0,"request_id":""}` + "\n"},
		{"malformed, text", malformed(), false, `time=2026-03-01T12:00:00.000000Z msg=request ` +
			`client=198.51.100.1:1 method="" host="" path="" proto="" status=400 ` +
			`reason=malformed_request side=client detail="header name \"a b\" is not a token" ` +
			`attempts=0 duration_s=90.000000 bytes_in=0 bytes_out=0 request_id=""` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, formatted(c.record, c.json)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALineThatFollowsAnotherHasItsOwnTime(t *testing.T) {
	l := &line{}
	start := time.Unix(0, 0)
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{0, "time=1970-01-01T00:00:00.000000Z"},
		{999999 * time.Microsecond, "time=1970-01-01T00:00:00.999999Z"},
		{time.Second, "time=1970-01-01T00:00:01.000000Z"},
		{-time.Microsecond, "time=1969-12-31T23:59:59.999999Z"},
		{25 * time.Hour, "time=1970-01-02T01:00:00.000000Z"},
	} {
		got, _, _ := strings.Cut(string(l.format(&proxy.Record{Start: start.Add(c.at)})), " ")
		if got != c.want {
			t.Errorf("at %v: %q, want %q", c.at, got, c.want)
		}
	}
}

func TestAValueCannotEndItsLineNorForgeAField(t *testing.T) {
	for in, want := range map[string]string{
		"a b":            `"a b"`,
		`x" status=200`:  `"x\" status=200"`,
		"a\nb\r\tc":      `"a\nb\r\tc"`,
		"\x00\x1b[2J":    `"\u0000\u001b[2J"`,
		"\x7f\u0085":     `"\u007f\u0085"`,
		"\u2028\u202e":   `"\u2028\u202e"`,
		"\xff\xc3":       `"\ufffd\ufffd"`,
		"é😀":             `"\u00e9\ud83d\ude00"`,
		`C:\x`:           `"C:\\x"`,
		"k=v":            `"k=v"`,
		"</script>'`&?#": "</script>'`&?#",
	} {
		r := malformed()
		r.Path = []byte(in)
		if got := formatted(r, false); !strings.Contains(got, " path="+want+" proto=") {
			t.Errorf("%q: want path=%s in %s", in, want, got)
		}
		if want[0] != '"' {
			want = `"` + want + `"`
		}
		if got := formatted(r, true); !strings.Contains(got, `,"path":`+want+`,"proto":`) {
			t.Errorf("%q: want \"path\":%s in %s", in, want, got)
		}
	}
}

func TestAnAddressWithAZoneIsEscaped(t *testing.T) {
	r := malformed()
	r.Client = netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(`e"0`), 5)
	if got, want := formatted(r, true), `"client":"[fe80::1%e\"0]:5"`; !strings.Contains(got, want) {
		t.Errorf("want %s in %s", want, got)
	}
}

func TestALineIsShorterThanContainerRuntimesBreakIt(t *testing.T) {
	for name, unit := range map[string]string{"plain": "a", "quotes": `"`, "controls": "\x01", "pairs": "😀", "invalid": "\xff"} {
		long := []byte(strings.Repeat(unit, 100_000))
		r := sample()
		r.Method, r.Host, r.Path, r.Query, r.UserAgent, r.RequestID = long, long, long, long, long, long
		r.Proto, r.Detail = string(long), string(long)
		r.Rule = proxy.RuleID{Namespace: string(long), Route: string(long), Rule: string(long)}
		r.Reason = proxy.ReasonResponseHeaderTimeout
		r.Client = netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(string(long)), 5)
		r.Endpoint = r.Client
		for _, jsonForm := range []bool{true, false} {
			if n := len(formatted(r, jsonForm)); n > maxLine {
				t.Errorf("%s, json %v: %d bytes, want at most %d", name, jsonForm, n, maxLine)
			}
		}
	}
}

func FuzzALineDecodesToTheFieldsOfTheRecord(f *testing.F) {
	f.Add("GET", "h", "/", "q=1", "ua", "id", "detail", "ns", "route", "rule", 200, uint8(0), int64(1))
	f.Add("\n", "a\" b=\"c", "\xff\xfe\x80", "\u2028😀\x00", `\`, "=", "", "", "x", "", -1, uint8(3), int64(-5))
	f.Add("", strings.Repeat("\"", 600), strings.Repeat("é", 700), strings.Repeat("x", 5000), "\x7f", " ", "\t", "", "", "", 0, uint8(9), int64(1)<<62)
	f.Fuzz(func(t *testing.T, method, host, path, query, ua, id, detail, ns, route, rule string, status int, reason uint8, n int64) {
		reasons := proxy.Reasons()
		r := &proxy.Record{
			Start: time.Unix(n&(1<<37-1), n), Duration: time.Duration(n), Connect: time.Duration(n),
			Rule:   proxy.RuleID{Namespace: ns, Route: route, Rule: rule},
			Method: []byte(method), Host: []byte(host), Path: []byte(path), Query: []byte(query),
			UserAgent: []byte(ua), RequestID: []byte(id), Detail: detail, Proto: "HTTP/1.1",
			Status: status, Reason: reasons[int(reason)%len(reasons)], Attempts: status, WouldLimit: status%2 == 0, BytesIn: n, BytesOut: -n,
			Stopped: retry.Whys()[int(reason)%len(retry.Whys())],
		}
		want := wantFields(r)
		for _, form := range []struct {
			name  string
			json  bool
			parse func(string) (map[string]string, error)
		}{{"json", true, parseJSONLine}, {"text", false, parseTextLine}} {
			got := formatted(r, form.json)
			if body, ok := strings.CutSuffix(got, "\n"); !ok || strings.ContainsFunc(body, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%s: not one line of graphic ASCII: %q", form.name, got)
			}
			fields, err := form.parse(got)
			if err != nil {
				t.Fatalf("%s: %v in %q", form.name, err, got)
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("%s: %s\n%q", form.name, diff, got)
			}
		}
	})
}

// wantFields is what a reader of the line should get, said in another way than
// the formatter does.
func wantFields(r *proxy.Record) map[string]string {
	seconds := func(d time.Duration) string {
		micros := max(d, 0).Microseconds()
		return fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6)
	}
	m := map[string]string{
		"time":       r.Start.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"msg":        "request",
		"client":     "",
		"method":     cut(string(r.Method), maxWord),
		"host":       cut(string(r.Host), maxText),
		"path":       cut(string(r.Path), maxURLPart),
		"proto":      r.Proto,
		"status":     fmt.Sprint(r.Status),
		"reason":     r.Reason.String(),
		"attempts":   fmt.Sprint(r.Attempts),
		"duration_s": seconds(r.Duration),
		"bytes_in":   fmt.Sprint(r.BytesIn),
		"bytes_out":  fmt.Sprint(r.BytesOut),
		"request_id": cut(string(r.RequestID), maxName),
	}
	if r.Rule.Route != "" {
		m["route"] = cut(r.Rule.Namespace, maxName) + "/" + cut(r.Rule.Route, maxName)
		m["rule"] = cut(r.Rule.Rule, maxName)
	}
	if r.Reason != proxy.ReasonOK {
		m["side"] = r.Reason.Side().String()
	}
	if r.WouldLimit {
		m["rate_limit"] = "dry_run"
	}
	if r.Connect > 0 {
		m["connect_s"] = seconds(r.Connect)
	}
	for name, v := range map[string]struct {
		value string
		limit int
	}{
		"query":      {string(r.Query), maxURLPart},
		"user_agent": {string(r.UserAgent), maxText},
		"detail":     {r.Detail, maxText},
		"retry":      {strings.TrimPrefix(r.Stopped.String(), "final"), maxWord},
	} {
		if v.value != "" {
			m[name] = cut(v.value, v.limit)
		}
	}
	return m
}

// cut returns what is left of v when its escaped form may take limit bytes.
func cut(v string, limit int) string {
	out, used := "", 0
	for _, r := range v { // what is not UTF-8 comes as U+FFFD, byte by byte
		switch {
		case strings.ContainsRune("\"\\\n\r\t", r):
			used += 2
		case r >= ' ' && r <= '~':
			used++
		case r > 0xffff:
			used += 12
		default:
			used += 6
		}
		if used > limit {
			return out + "..."
		}
		out += string(r)
	}
	return out
}

func parseJSONLine(s string) (map[string]string, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	fields := map[string]string{}
	for k, v := range m {
		fields[k] = fmt.Sprint(v)
	}
	// A field that is there twice would be lost in the map.
	if n := bytes.Count([]byte(s), []byte(`":`)); n < len(fields) {
		return nil, fmt.Errorf("%d fields", n)
	}
	return fields, nil
}

// parseTextLine reads logfmt as strictly as its readers do: key=value, the value
// either quoted or without spaces, quotes and equals signs.
func parseTextLine(s string) (map[string]string, error) {
	fields := map[string]string{}
	rest := strings.TrimSuffix(s, "\n")
	for rest != "" {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || key == "" || strings.ContainsAny(key, "\" ") {
			return nil, fmt.Errorf("key %q", key)
		}
		value, tail, err := textValue(after)
		if err != nil {
			return nil, err
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("field %q twice", key)
		}
		fields[key] = value
		if tail != "" && tail[0] != ' ' {
			return nil, fmt.Errorf("no space before %q", tail)
		}
		rest = strings.TrimPrefix(tail, " ")
	}
	return fields, nil
}

func textValue(s string) (value, tail string, err error) {
	if !strings.HasPrefix(s, `"`) {
		value, _, _ = strings.Cut(s, " ")
		if value == "" || strings.ContainsAny(value, "\"=\\") || !utf8.ValidString(value) {
			return "", "", fmt.Errorf("bare value %q", value)
		}
		return value, s[len(value):], nil
	}
	d := json.NewDecoder(strings.NewReader(s))
	err = d.Decode(&value)
	return value, s[d.InputOffset():], err
}
