package translate

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// RE2 bounds neither the memory of a compiled expression nor its time per byte
// by the length of its text: "a{1000}" is a thousand steps. Whoever may create a
// route must not be able to exhaust the proxies of all by it.
const (
	// maxRegexSize bounds the steps of one expression.
	maxRegexSize = 1000
	// maxRuleRegexSize bounds the steps of all expressions of a rule.
	maxRuleRegexSize = 4000
)

var errRegexSize = fmt.Errorf("is larger than %d steps, counting what its repetitions stand for", maxRegexSize)

// checkRegex says whether an expression compiles by itself and, as the data
// plane needs it, between a group and anchors: "a)|(b" must not, and the group
// adds a level of nesting, of which there is a limit.
func checkRegex(expression string) error {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err == nil {
		if regexSize(parsed) > maxRegexSize {
			return fmt.Errorf("the regular expression %s %w; simplify it", quote(expression), errRegexSize)
		}
		_, err = regexp.Compile("^(?:" + parsed.String() + ")$")
	}
	if err == nil {
		return nil
	}
	why := err.Error()
	if se, ok := errors.AsType[*syntax.Error](err); ok {
		why = se.Code.String()
		if se.Expr != "" && se.Expr != expression {
			why += " at " + quote(se.Expr)
		}
	}
	return fmt.Errorf("the regular expression %s does not compile: %s", quote(expression), why)
}

// regexSize estimates the steps that an expression compiles to. It is exact
// enough to tell hundreds from many thousands, and stops counting there.
func regexSize(re *syntax.Regexp) int {
	size := 1
	switch re.Op {
	case syntax.OpRepeat:
		size = 0
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpCharClass:
		size += len(re.Rune) / 16 // pairs of bounds
	default:
	}
	for _, sub := range re.Sub {
		size = min(size+regexSize(sub), maxRegexSize+1)
	}
	if re.Op == syntax.OpRepeat {
		// A bounded product: neither factor is more than about a thousand.
		size = min(size*max(re.Min, re.Max, 1), maxRegexSize+1)
	}
	return size
}

// matchRegexSize is the size of all expressions of a match.
func matchRegexSize(m *plan.Match) (size int) {
	add := func(expression string) {
		if re, err := syntax.Parse(expression, syntax.Perl); err == nil {
			size += regexSize(re)
		}
	}
	if m.Path.Type == plan.PathRegex {
		add(m.Path.Value)
	}
	for _, values := range [][]plan.ValueMatch{m.Headers, m.Query} {
		for _, v := range values {
			if v.Regex {
				add(v.Value)
			}
		}
	}
	return size
}
