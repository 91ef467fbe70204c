package translate

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

// One expression that the table cannot compile would keep a whole plan from
// being served, so the two must agree on every expression.
func TestRegexIsAcceptedExactlyWhenTheTableCompilesIt(t *testing.T) {
	for _, expression := range []string{
		"", "a", "a|b", "(?i)a", `\Qa.b`, `\Qa.b\E`, "(?s:.)", "^a$", "a{1000}", `\pL`, "[[:alpha:]]", "(?P<n>a)",
		"(", ")", "a)|(b", "[z-a]", "a{2,1}", "a{1001}", "(a{100}){100}", `\`, `\C`, "(?<n", "*", "a**", "\xff", `\8`,
		strings.Repeat("(", 999) + strings.Repeat(")", 999), strings.Repeat("(", 1000) + strings.Repeat(")", 1000),
		strings.Repeat("(?:", 1001) + strings.Repeat(")", 1001),
	} {
		accepted := checkRegex(expression) == nil
		if compiles := tableCompiles(expression); accepted != compiles {
			t.Errorf("%.40q: accepted %v, the table compiles it: %v", expression, accepted, compiles)
		}
	}
}

// A route with expressions such as these could use up the memory of every
// replica, or seconds for one request, and would again after each restart.
func TestExpressionsThatAreLargeOnceCompiledAreRefused(t *testing.T) {
	for _, expression := range []string{
		strings.Repeat("a{1000}", 140), strings.Repeat("(?:.?){1000}", 80), strings.Repeat("a", 1001), "(?:ab|cd|ef){300}",
		strings.Repeat(`\pL`, 200),
	} {
		if err := checkRegex(expression); !errors.Is(err, errRegexSize) {
			t.Errorf("%.30q: %v", expression, err)
		}
	}
	for _, expression := range []string{"/[a-z0-9-]{1,63}/.*", "(?i)bot|spider|crawl(er)?", `/v\d+/(users|carts)/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`} {
		if err := checkRegex(expression); err != nil {
			t.Error(err)
		}
	}
	var matches []v1alpha1.RouteMatch
	for range 6 {
		matches = append(matches, v1alpha1.RouteMatch{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegularExpression, Value: "a{900}"}})
	}
	good, problems := compileMatches(&v1alpha1.RouteRule{Matches: matches})
	if len(good) != 4 || len(problems) != 2 || !strings.Contains(problems[0], "4000 steps") {
		t.Errorf("of six expressions of 900 steps %d are accepted: %q", len(good), problems)
	}
}

func FuzzRegexIsAcceptedExactlyWhenTheTableCompilesIt(f *testing.F) {
	for _, s := range []string{"a", "a)|(b", `\Qa`, "(?i)A{2}", "[z-a]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		err := checkRegex(expression)
		if errors.Is(err, errRegexSize) {
			return // a bound of ours, which the table does not have
		}
		if compiles := tableCompiles(expression); (err == nil) != compiles {
			t.Fatalf("%q: %v, the table compiles it: %v", expression, err, compiles)
		}
	})
}

func tableCompiles(expression string) bool {
	_, err := route.Build([]route.Entry[int]{{
		Hostnames: []string{"*"},
		Matches:   []plan.Match{{Path: plan.PathMatch{Type: plan.PathRegex, Value: expression}}},
		Value:     1,
	}}, nil)
	return err == nil
}

// Whatever the fields of a route are, what is made of it can be served.
func FuzzEveryRouteIsServable(f *testing.F) {
	f.Add("shop.example.com", uint8(0), "/a/", "X-A", "1", "GET")
	f.Add("*.example.com", uint8(1), "/%7e/../%e4", "a b", "(", "")
	f.Add("*", uint8(2), "/a)|(b", "x", "[z-a]", "G T")
	f.Add("*.", uint8(3), "//", "", "", "get")
	f.Fuzz(func(t *testing.T, host string, kinds uint8, path, header, value, method string) {
		types := []v1alpha1.PathMatchType{v1alpha1.PathMatchPathPrefix, v1alpha1.PathMatchExact, v1alpha1.PathMatchRegularExpression, ""}
		values := []v1alpha1.ValueMatchType{v1alpha1.ValueMatchExact, v1alpha1.ValueMatchRegularExpression}
		r := &v1alpha1.ProxyRoute{}
		r.Namespace, r.Name = "a", "b"
		r.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(host), "good.example.com"}
		r.Spec.Rules = []v1alpha1.RouteRule{{Matches: []v1alpha1.RouteMatch{{
			Path:        &v1alpha1.PathMatch{Type: types[kinds&3], Value: path},
			Method:      &method,
			Headers:     []v1alpha1.HeaderMatch{{Type: values[kinds>>2&1], Name: header, Value: value}},
			QueryParams: []v1alpha1.QueryParamMatch{{Type: values[kinds>>3&1], Name: header, Value: value}},
		}, {}}}}
		class := &v1alpha1.ProxyClass{}
		class.Name = "c"
		result := Build(Snapshot{Routes: []*v1alpha1.ProxyRoute{r}, Classes: []*v1alpha1.ProxyClass{class}})
		checkServable(t, result.Plan)
		checkMessages(t, result)
		if len(result.Plan.Routes) != 1 {
			t.Error("what is good of the route is not in the plan")
		}
	})
}

func TestGrantedHostnamesCoverWhatIsBelowThem(t *testing.T) {
	var s hostSet
	s.add("*.example.com")
	s.add("Exact.Example.org")
	for host, want := range map[string]bool{
		"a.example.com": true, "a.b.example.com": true, "*.example.com": true, "*.a.example.com": true,
		"exact.example.org": true,
		"example.com":       false, "*.com": false, "aexample.com": false, "*": false, "com": false,
		"a.exact.example.org": false, "*.example.org": false, "*.exact.example.org": false, "example.com.evil.org": false,
	} {
		if got := s.covers(host); got != want {
			t.Errorf("covers(%q) = %v, want %v", host, got, want)
		}
	}
	s.add("*")
	if !s.covers("*") || !s.covers("any.org") {
		t.Error(`"*" does not cover everything`)
	}
	if (&hostSet{}).covers("a") || (&hostSet{}).covers("*") {
		t.Error("the empty set covers something")
	}
}

func TestHostnamesAreValidated(t *testing.T) {
	long := strings.Repeat("a", 63)
	for host, want := range map[string]bool{
		"a": true, "a.b": true, "*.a": true, "*": true, "xn--bcher-kva.example": true, "10.0.0.1": true, "a-b.c": true, long + ".a": true,
		"": false, "*.": false, "a.": false, ".a": false, "a..b": false, "-a": false, "a-": false, "A": false, "a_b": false,
		"*a": false, "a.*": false, "*.*.a": false, "a:80": false, "a/b": false, "ä": false, long + "a": false,
		"*." + strings.Repeat("a.", 125) + "a": true, "*." + strings.Repeat("a.", 125) + "aa": false, strings.Repeat("a.", 127): false, strings.Repeat("abc.", 63) + "abc": false,
	} {
		if got := validHostname(host); got != want {
			t.Errorf("validHostname(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestLongTextIsCutOnARuneBoundary(t *testing.T) {
	s := strings.Repeat("ä", 100)
	for limit := 3; limit < 220; limit++ {
		got := cut(s, limit)
		if len(got) > limit && len(s) > limit || !utf8.ValidString(got) {
			t.Fatalf("cut at %d: %d bytes, %q", limit, len(got), got)
		}
	}
	if got := list([]string{"a", "b"}, ", "); got != "a, b" {
		t.Errorf("list of two: %q", got)
	}
	if got := listSome([]string{"a", "b", "c"}, ", ", 2); got != "a, b, and 1 more" {
		t.Errorf("list of three, at most two: %q", got)
	}
}
