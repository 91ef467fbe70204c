package route

import (
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// fields is a HeaderSource.
type fields map[string]string

func (f fields) Header(name string) ([]byte, bool) {
	value, ok := f[name]
	return []byte(value), ok
}

// request reads "GET host/path?query"; the path must be canonical.
func request(line string, headers fields) *Request {
	method, target, ok := strings.Cut(line, " ")
	if !ok {
		panic("no method in " + line)
	}
	host, rest, _ := strings.Cut(target, "/")
	path, query, _ := strings.Cut("/"+rest, "?")
	return &Request{
		Host: []byte(host), Path: []byte(path), RawQuery: []byte(query),
		Method: []byte(method), Headers: headers,
	}
}

func exact(path string) plan.Match {
	return plan.Match{Path: plan.PathMatch{Type: plan.PathExact, Value: path}}
}

func prefix(path string) plan.Match {
	return plan.Match{Path: plan.PathMatch{Type: plan.PathPrefix, Value: path}}
}

func regex(path string) plan.Match {
	return plan.Match{Path: plan.PathMatch{Type: plan.PathRegex, Value: path}}
}

func withMethod(m plan.Match, method string) plan.Match {
	m.Method = method
	return m
}

// withHeader and withQuery add conditions; a value that starts with '~' is a
// regular expression.
func withHeader(m plan.Match, name, value string) plan.Match {
	m.Headers = append(m.Headers[:len(m.Headers):len(m.Headers)], valueMatch(name, value))
	return m
}

func withQuery(m plan.Match, name, value string) plan.Match {
	m.Query = append(m.Query[:len(m.Query):len(m.Query)], valueMatch(name, value))
	return m
}

func valueMatch(name, value string) plan.ValueMatch {
	value, regex := strings.CutPrefix(value, "~")
	return plan.ValueMatch{Name: name, Value: value, Regex: regex}
}

func entry(value string, hostnames string, matches ...plan.Match) Entry[string] {
	return Entry[string]{Value: value, Hostnames: strings.Fields(hostnames), Matches: matches}
}

func build(tb testing.TB, entries ...Entry[string]) *Table[string] {
	tb.Helper()
	table, err := Build(entries, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// wantTaker fails the test unless want ("" = nobody) takes r, in the table's
// words and in those of the explanation.
func wantTaker(t *testing.T, table *Table[string], r *Request, want string) {
	t.Helper()
	if got, ok := table.Match(r); got != want || ok != (want != "") {
		t.Errorf("%s %s%s?%s: Match = %q, %v; want %q", r.Method, r.Host, r.Path, r.RawQuery, got, ok, want)
	}
	explained := ""
	if x := table.Explain(r); x.Winner != nil {
		explained = x.Winner.Value
	}
	if explained != want {
		t.Errorf("%s %s%s?%s: Explain = %q; want %q", r.Method, r.Host, r.Path, r.RawQuery, explained, want)
	}
}

func TestBetterMatchWinsWhateverTheOrder(t *testing.T) {
	const host = "shop.test"
	headers := fields{"a": "1", "b": "2", "c": "3"}
	for _, c := range []struct {
		name          string
		better, worse Entry[string]
		request       string
	}{
		{"exact host over wildcard",
			entry("better", host, prefix("/")), entry("worse", "*.test", exact("/a")), "GET shop.test/a"},
		{"wildcard over any host",
			entry("better", "*.test", prefix("/")), entry("worse", "*", exact("/a")), "GET shop.test/a"},
		{"longer wildcard over shorter",
			entry("better", "*.eu.shop.test", prefix("/")), entry("worse", "*.shop.test", exact("/a")), "GET x.eu.shop.test/a"},
		{"exact path over prefix",
			entry("better", host, exact("/a")), entry("worse", host, withMethod(prefix("/a"), "GET")), "GET shop.test/a"},
		{"exact path over expression",
			entry("better", host, exact("/a")), entry("worse", host, withMethod(regex("/a"), "GET")), "GET shop.test/a"},
		{"prefix over expression",
			entry("better", host, prefix("/")), entry("worse", host, withMethod(regex("/a"), "GET")), "GET shop.test/a"},
		{"longer prefix over shorter",
			entry("better", host, prefix("/a/b")), entry("worse", host, withMethod(prefix("/a"), "GET")), "GET shop.test/a/b/c"},
		{"prefix over root",
			entry("better", host, prefix("/a")), entry("worse", host, withMethod(prefix("/"), "GET")), "GET shop.test/a"},
		{"method over headers",
			entry("better", host, withMethod(prefix("/"), "GET")),
			entry("worse", host, withHeader(withHeader(prefix("/"), "a", "1"), "b", "2")), "GET shop.test/"},
		{"more headers over fewer",
			entry("better", host, withHeader(withHeader(prefix("/"), "a", "1"), "b", "2")),
			entry("worse", host, withQuery(withQuery(withHeader(prefix("/"), "c", "3"), "v", "1"), "w", "2")), "GET shop.test/?v=1&w=2"},
		{"more parameters over fewer",
			entry("better", host, withQuery(withQuery(prefix("/"), "v", "1"), "w", "2")),
			entry("worse", host, withQuery(prefix("/"), "v", "1")), "GET shop.test/?v=1&w=2"},
		{"among expressions, method over headers",
			entry("better", host, withMethod(regex("/.*"), "GET")),
			entry("worse", host, withHeader(regex("/a/.*"), "a", "1")), "GET shop.test/a/b"},
		{"among exact paths, headers over none",
			entry("better", host, withHeader(exact("/a"), "a", "1")), entry("worse", host, exact("/a")), "GET shop.test/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(c.request, headers)
			wantTaker(t, build(t, c.better, c.worse), r, "better")
			wantTaker(t, build(t, c.worse, c.better), r, "better")
		})
	}
}

func TestEarlierEntryWinsAmongEquals(t *testing.T) {
	for _, m := range []plan.Match{
		exact("/a"), prefix("/a"), prefix("/"), regex("/a"),
		withMethod(prefix("/a"), "GET"), withHeader(prefix("/a"), "h", "1"), withQuery(prefix("/a"), "v", "1"),
	} {
		for _, hosts := range []string{"a.test", "*.test", "*"} {
			table := build(t, entry("first", hosts, m), entry("second", hosts, m))
			wantTaker(t, table, request("GET a.test/a?v=1", fields{"h": "1"}), "first")
		}
	}
	// Expressions are compared by order, not by length.
	table := build(t, entry("first", "*", regex("/.*")), entry("second", "*", regex("/a/longer.*")))
	wantTaker(t, table, request("GET a.test/a/longer", nil), "first")
}

func TestPrefixMatchesBySegment(t *testing.T) {
	table := build(t, entry("a", "h.test", prefix("/a")), entry("ab", "h.test", prefix("/a/b")),
		entry("slash", "h.test", exact("/a/")))
	for path, want := range map[string]string{
		"/a": "a", "/a/": "slash", "/a/x": "a", "/ab": "", "/a/b": "ab", "/a/b/": "ab", "/a/b/c/d": "ab",
		"/a/bc": "a", "/": "", "/A": "", "/a%2Fb": "", "/a/b%2Fc": "a",
	} {
		wantTaker(t, table, request("GET h.test"+path, nil), want)
	}
}

func TestExactPathMatchesTheWholePathOnly(t *testing.T) {
	table := build(t, entry("root", "h.test", exact("/")), entry("ab", "h.test", exact("/a/b")),
		entry("escape", "h.test", exact("/a%2Fb")))
	for path, want := range map[string]string{
		"/": "root", "/a": "", "/a/b": "ab", "/a/b/": "", "/a/b/c": "", "/a%2Fb": "escape", "/x": "",
	} {
		wantTaker(t, table, request("GET h.test"+path, nil), want)
	}
}

func TestExpressionsMatchTheWholeValue(t *testing.T) {
	table := build(t,
		entry("alternatives", "h.test", regex("/a|/b/c")),
		entry("quoted", "h.test", regex(`/q/\Q(x)`)),
		entry("folded", "h.test", regex("(?i)/Fold")),
		entry("lines", "h.test", regex("(?m)/m$")),
		entry("header", "h.test", withHeader(prefix("/h"), "x", "~v[0-9]+")),
		entry("query", "h.test", withQuery(prefix("/q"), "x", "~v [0-9]+")))
	for line, want := range map[string]string{
		"/a": "alternatives", "/b/c": "alternatives", "/ax": "", "/x/b/c": "", "/a/b/c": "",
		"/q/(x)": "quoted", "/q/(x))": "", "/fOLD": "folded", "/m": "lines", "/m/m": "",
		"/q/?x=v+12": "query", "/q/?x=%76%2012": "query", "/q/?x=v+12+": "", "/q/?y=v+12": "",
	} {
		wantTaker(t, table, request("GET h.test"+line, nil), want)
	}
	for value, want := range map[string]string{"v1": "header", "v12": "header", "v": "", "xv1": "", "v1x": "", "v1\n": "", "": ""} {
		wantTaker(t, table, request("GET h.test/h", fields{"x": value}), want)
	}
}

func TestWildcardStandsForOneLabelOrMore(t *testing.T) {
	table := build(t, entry("wild", "*.a.test", prefix("/")))
	for host, want := range map[string]string{
		"x.a.test": "wild", "x.y.a.test": "wild", "x-y.a.test": "wild",
		"a.test": "", ".a.test": "", "xa.test": "", "x.a.test.x": "", "x.b.test": "", "": "", "*.a.test": "wild",
	} {
		wantTaker(t, table, request("GET "+host+"/", nil), want)
	}
}

func TestHostsAndWildcardsMayBeLong(t *testing.T) {
	label := strings.Repeat("x", 63)
	suffix := strings.Join([]string{label, label, label, label[:57]}, ".")
	table := build(t, entry("wild", "*."+suffix, prefix("/")), entry("short", "*.x", prefix("/")))
	wantTaker(t, table, request("GET a."+suffix+"/", nil), "wild")
	wantTaker(t, table, request("GET "+suffix+"/", nil), "")
	wantTaker(t, table, request("GET "+strings.Repeat("x.", 2000)+"x/", nil), "short")
	wantTaker(t, table, request("GET "+strings.Repeat(".", 2000)+"/", nil), "")
}

func TestAnyHostMatchesEveryHost(t *testing.T) {
	table := build(t, entry("any", "*", prefix("/")))
	for _, host := range []string{"", "a", "a.test", "*", ".", "10.0.0.1", "[::1]"} {
		wantTaker(t, table, request("GET "+host+"/", nil), "any")
	}
}

func TestWhatAHostDoesNotMatchFallsToTheNextHost(t *testing.T) {
	table := build(t,
		entry("exact", "x.b.a.test", prefix("/exact")),
		entry("long", "*.b.a.test", prefix("/long"), regex("/exact")),
		entry("short", "*.a.test", exact("/short"), prefix("/long/x")),
		entry("any", "*", withMethod(prefix("/"), "GET")))
	for line, want := range map[string]string{
		"GET x.b.a.test/exact":  "exact",
		"GET x.b.a.test/long/x": "long",
		"GET x.b.a.test/short":  "short",
		"GET x.b.a.test/other":  "any",
		"PUT x.b.a.test/other":  "",
		"GET y.b.a.test/exact":  "long",
		"GET b.a.test/long/x":   "short",
		"GET a.test/short":      "any",
	} {
		wantTaker(t, table, request(line, nil), want)
	}
}

func TestUnmetConditionsFallToTheNextBestMatch(t *testing.T) {
	table := build(t,
		entry("exact", "h.test", withHeader(exact("/a/b"), "x", "1")),
		entry("deep", "h.test", withMethod(prefix("/a/b"), "POST")),
		entry("query", "h.test", withQuery(prefix("/a"), "v", "1")),
		entry("shallow", "h.test", withHeader(prefix("/a"), "y", "1")),
		entry("regex", "h.test", withMethod(regex("/a.*"), "GET")))
	for _, c := range []struct {
		line    string
		headers fields
		want    string
	}{
		{"POST h.test/a/b?v=1", fields{"x": "1", "y": "1"}, "exact"},
		{"POST h.test/a/b?v=1", fields{"x": "2", "y": "1"}, "deep"},
		{"PUT h.test/a/b?v=1", fields{"y": "1"}, "shallow"},
		{"PUT h.test/a/b?v=1", fields{"y": "11"}, "query"},
		{"GET h.test/a/b?v=2", nil, "regex"},
		{"PUT h.test/a/b?v=2", nil, ""},
	} {
		wantTaker(t, table, request(c.line, c.headers), c.want)
	}
}

func TestNodesWithManyChildrenMatchAsThoseWithFew(t *testing.T) {
	for _, n := range []int{1, maxChained, maxChained + 1, 1000} {
		var entries []Entry[string]
		name := func(i int) string {
			return strings.Repeat("x", i%12) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		}
		for i := range n {
			entries = append(entries, entry("v/"+name(i), "h.test", prefix("/p/"+name(i)), exact("/p/"+name(i)+"/e/f")))
		}
		table := build(t, entries...)
		for i := range n {
			for _, path := range []string{"/p/" + name(i), "/p/" + name(i) + "/", "/p/" + name(i) + "/e/f"} {
				if got, _ := table.Match(request("GET h.test"+path, nil)); got != "v/"+name(i) {
					t.Errorf("%d children: Match(%s) = %q", n, path, got)
				}
			}
		}
		for _, path := range []string{"/p", "/p/", "/p/nobody", "/nobody", "/", "/p/xxxxxxxxxxxxxxxxxxxxxxxxxxxx/e"} {
			wantTaker(t, table, request("GET h.test"+path, nil), "")
		}
	}
}

func TestQueryIsReadAsFormsAreSent(t *testing.T) {
	table := build(t, entry("taken", "*", withQuery(prefix("/"), "a b", "1&é+")))
	for query, want := range map[string]string{
		"a+b=1%26%c3%a9%2B":         "taken",
		"%61%20b=%31%26%C3%A9%2b":   "taken",
		"&&x=1&a+b=1%26%C3%A9%2B&":  "taken",
		"a+b=1%26%C3%A9%2B&a+b=2":   "taken", // the first one counts
		"a+b=2&a+b=1%26%C3%A9%2B":   "",
		"x;a+b=1%26%C3%A9%2B":       "", // ';' separates nothing
		"a+b=1%26%C3%A9%2B;x":       "",
		"a+b=1%26%C3%A9+":           "",
		"a+b":                       "",
		"a%2Bb=1%26%C3%A9%2B":       "",
		"":                          "",
		"A+b=1%26%C3%A9%2B":         "",
		"a+b=1%26%C3%A9%2":          "",
		"a+b=1%26%C3%A9%2B%00":      "",
		"a+b==1%26%C3%A9%2B":        "",
		"a+b=1%2526%25C3%25A9%252B": "",
	} {
		wantTaker(t, table, request("GET h/?"+query, nil), want)
	}
	table = build(t, entry("empty", "*", withQuery(prefix("/"), "v", "")), entry("stray", "*", withQuery(prefix("/"), "v", "%zz%1")))
	for query, want := range map[string]string{
		"v": "empty", "v=": "empty", "v=&v=1": "empty", "v=%zz%1": "stray", "v=%25zz%251": "stray", "w=": "", "=v": "",
	} {
		wantTaker(t, table, request("GET h/?"+query, nil), want)
	}
	table = build(t, entry("nameless", "*", withQuery(prefix("/"), "", "~.*")))
	for query, want := range map[string]string{"=": "nameless", "a=1&=v": "nameless", "": "", "&": "", "a&&b": ""} {
		wantTaker(t, table, request("GET h/?"+query, nil), want)
	}
}

func TestHeaderConditionsNeedTheHeader(t *testing.T) {
	table := build(t, entry("empty", "*", withHeader(prefix("/"), "x", "")), entry("regex", "*", withHeader(prefix("/"), "y", "~.*")))
	wantTaker(t, table, request("GET h/", fields{"x": ""}), "empty")
	wantTaker(t, table, request("GET h/", fields{"y": ""}), "regex")
	wantTaker(t, table, request("GET h/", fields{"z": ""}), "")
	r := request("GET h/", nil)
	r.Headers = nil
	wantTaker(t, table, r, "")
}

func TestMethodIsComparedByCase(t *testing.T) {
	table := build(t, entry("get", "*", withMethod(prefix("/"), "GET")))
	wantTaker(t, table, request("GET h/", nil), "get")
	wantTaker(t, table, request("get h/", nil), "")
	wantTaker(t, table, request("GETS h/", nil), "")
}

func TestTableWithoutEntriesTakesNothing(t *testing.T) {
	r := request("GET h.test/", nil)
	wantTaker(t, &Table[string]{}, r, "")
	wantTaker(t, build(t), r, "")
	wantTaker(t, build(t, entry("no match", "*"), entry("no host", "", prefix("/"))), r, "")
}

func TestPathThatIsNoneIsTakenByExpressionsOnly(t *testing.T) {
	table := build(t, entry("prefix", "*", prefix("/")), entry("regex", "*", regex(`\*`)))
	r := request("OPTIONS h/", nil)
	r.Path = []byte("*")
	wantTaker(t, table, r, "regex")
	r.Path = nil
	wantTaker(t, table, r, "")
}

// The requests go through every kind of condition and every kind of lookup.
func TestMatchDoesNotAllocate(t *testing.T) {
	entries := []Entry[string]{
		entry("conditions", "h.test",
			withQuery(withHeader(withMethod(prefix("/a"), "GET"), "x", "1"), "v", "1 2")),
		entry("expressions", "h.test",
			withQuery(withHeader(regex("/(a|b)/[a-z]+"), "x", "~[a-z]+"), "v", "~[0-9] [0-9]")),
		entry("wildcard", "*.test", exact("/w")),
		entry("any", "*", prefix("/")),
	}
	for i := range 100 {
		entries = append(entries, entry("child", "h.test", prefix("/many/x"+strings.Repeat("x", i))))
	}
	table := build(t, entries...)
	headers := staticHeader("1")
	letters := staticHeader("abc")
	for _, c := range []struct {
		line    string
		headers HeaderSource
		want    string
	}{
		{"GET h.test/a/b?w=1&v=1%202", headers, "conditions"},
		{"PUT h.test/b/c?v=1+2", letters, "expressions"},
		{"GET h.test/many/xxxx", headers, "child"},
		{"GET x.h.test/w", headers, "wildcard"},
		{"GET nowhere/", headers, "any"},
	} {
		r := request(c.line, nil)
		r.Headers = c.headers
		if got, _ := table.Match(r); got != c.want {
			t.Errorf("%s: Match = %q; want %q", c.line, got, c.want)
		}
		n := testing.AllocsPerRun(200, func() { table.Match(r) })
		if pooled := c.want == "expressions"; pooled && raceDetector {
			continue
		}
		if n != 0 {
			t.Errorf("%s: Match allocates %v times", c.line, n)
		}
	}
}

// staticHeader is the value of every header.
type staticHeader []byte

func (h staticHeader) Header(string) ([]byte, bool) { return h, true }
