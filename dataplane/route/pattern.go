package route

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// pattern is a regular expression that must match a whole value. It is
// immutable and shared by all that use the same expression.
type pattern struct {
	expr string
	// prefix is how every value begins that can match. Comparing it first
	// spares the expression most of the values that it does not match.
	prefix string
	re     *regexp.Regexp
}

// newPattern compiles an RE2 expression. The error says what is wrong in it.
func newPattern(expr string) (*pattern, error) {
	// The expression is parsed by itself, before it is anchored: "a)|(b" is an
	// error, and a \Q without \E must not quote what comes after it.
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile("^(?:" + parsed.String() + ")$")
	if err != nil {
		return nil, err
	}
	return &pattern{expr: expr, prefix: literalPrefix(parsed), re: re}, nil
}

// literalPrefix returns the literal that begins every match, or a part of it.
func literalPrefix(re *syntax.Regexp) string {
	if re.Op == syntax.OpConcat {
		re = re.Sub[0]
	}
	if re.Op != syntax.OpLiteral || re.Flags&syntax.FoldCase != 0 {
		return ""
	}
	prefix := string(re.Rune)
	// In an expression U+FFFD also stands for bytes that are no UTF-8.
	prefix, _, _ = strings.Cut(prefix, string(utf8.RuneError))
	return prefix
}

func (p *pattern) match(value []byte) bool {
	return len(value) >= len(p.prefix) && string(value[:len(p.prefix)]) == p.prefix && p.re.Match(value)
}

// patternCache hands out one pattern per expression: those of the table before,
// and new ones.
type patternCache[T comparable] struct {
	prev   *Table[T]
	byExpr map[string]*pattern // nil until a pattern is asked for
}

func (c *patternCache[T]) get(expr string) (*pattern, error) {
	if c.byExpr == nil {
		c.byExpr = map[string]*pattern{}
		c.prev.eachHost(func(h *host[T]) {
			if h.rare == nil {
				return
			}
			for _, p := range h.rare.patterns {
				c.byExpr[p.expr] = p
			}
		})
	}
	if p := c.byExpr[expr]; p != nil {
		return p, nil
	}
	p, err := newPattern(expr)
	if err != nil {
		return nil, err
	}
	c.byExpr[expr] = p
	return p, nil
}
