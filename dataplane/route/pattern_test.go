package route

import (
	"regexp"
	"testing"
)

func FuzzPatternMatchesWhatTheExpressionMatchesAsAWhole(f *testing.F) {
	for _, expr := range []string{
		"", "/api/v[0-9]+/.*", "a|ab", "(?i)Stra\u00dfe", `\Qa.b`, `a\z|b$`, "(?m)^a$", "(?s).+", "(a*)*b", `\bx\b`,
		"abc|abd", "\ufffd.", "(?U)a+", "a{2,3}?", "x*", `[^/]+`, "^a", "(?i:a)b", "(?-s).", `\pL+`,
	} {
		for _, value := range []string{"", "a", "ab", "/api/v1/x", "A", "a.b", "aa", "a\nb", "\xff", "\xffx", "\ufffdx", "abd"} {
			f.Add(expr, value)
		}
	}
	f.Fuzz(func(t *testing.T, expr, value string) {
		_, wantErr := regexp.Compile(expr)
		p, err := newPattern(expr)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("newPattern(%q): %v; regexp.Compile: %v", expr, err, wantErr)
		}
		if err != nil {
			return
		}
		if got, want := p.match([]byte(value)), wholeMatch(expr, value); got != want {
			t.Fatalf("pattern %q (prefix %q, %s) matches %q: %v; want %v", expr, p.prefix, p.re, value, got, want)
		}
	})
}
