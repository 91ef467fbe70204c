package translate

import (
	"fmt"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

// wholePrefix is the match of a rule that has none.
var wholePrefix = plan.PathMatch{Type: plan.PathPrefix, Value: "/"}

// compileMatches compiles the matches of a rule; those that cannot be compiled
// are left out and reported.
func compileMatches(r *v1alpha1.RouteRule) (good []plan.Match, problems []string) {
	if len(r.Matches) == 0 {
		return []plan.Match{{Path: wholePrefix}}, nil
	}
	size := 0
	for i := range r.Matches {
		m, err := compileMatch(&r.Matches[i])
		if err == nil {
			if size += matchRegexSize(&m); size > maxRuleRegexSize {
				err = fmt.Errorf("with it the regular expressions of the rule are larger than %d steps; "+
					"use fewer or simpler ones, or several rules", maxRuleRegexSize)
			}
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("matches[%d]: %v", i, err))
			continue
		}
		good = append(good, m)
	}
	return good, problems
}

func compileMatch(m *v1alpha1.RouteMatch) (out plan.Match, err error) {
	if out.Path, err = compilePath(m.Path); err != nil {
		return out, err
	}
	if m.Method != nil {
		if !isToken(*m.Method) {
			return out, fmt.Errorf("method %s is not an HTTP method", quote(*m.Method))
		}
		out.Method = *m.Method
	}
	for _, h := range m.Headers {
		if !isToken(h.Name) {
			return out, fmt.Errorf("header name %s is not an HTTP token", quote(h.Name))
		}
		v, err := compileValue(strings.ToLower(h.Name), h.Type, h.Value)
		if err != nil {
			return out, fmt.Errorf("header %s: %w", quote(h.Name), err)
		}
		out.Headers = append(out.Headers, v)
	}
	for _, q := range m.QueryParams {
		v, err := compileValue(q.Name, q.Type, q.Value)
		if err != nil {
			return out, fmt.Errorf("query parameter %s: %w", quote(q.Name), err)
		}
		out.Query = append(out.Query, v)
	}
	return out, nil
}

// compilePath brings a path into the form that the paths of requests have when
// they are compared: canonical, and a prefix without its trailing slash.
func compilePath(p *v1alpha1.PathMatch) (plan.PathMatch, error) {
	if p == nil {
		return wholePrefix, nil
	}
	value := p.Value
	if value == "" {
		value = "/"
	}
	switch p.Type {
	case v1alpha1.PathMatchRegularExpression:
		if err := checkRegex(value); err != nil {
			return plan.PathMatch{}, fmt.Errorf("path: %w", err)
		}
		return plan.PathMatch{Type: plan.PathRegex, Value: value}, nil
	case v1alpha1.PathMatchExact, v1alpha1.PathMatchPathPrefix, "":
		raw := []byte(value)
		n, err := route.CanonicalPath(raw)
		if err != nil {
			return plan.PathMatch{}, fmt.Errorf("path %s: %w", quote(value), err)
		}
		value = string(raw[:n])
		if p.Type == v1alpha1.PathMatchExact {
			return plan.PathMatch{Type: plan.PathExact, Value: value}, nil
		}
		if value != "/" {
			value = strings.TrimSuffix(value, "/")
		}
		return plan.PathMatch{Type: plan.PathPrefix, Value: value}, nil
	default:
		return plan.PathMatch{}, fmt.Errorf("path type %s is not known to this version", quote(string(p.Type)))
	}
}

func compileValue(name string, t v1alpha1.ValueMatchType, value string) (plan.ValueMatch, error) {
	switch t {
	case v1alpha1.ValueMatchExact, "":
		return plan.ValueMatch{Name: name, Value: value}, nil
	case v1alpha1.ValueMatchRegularExpression:
		return plan.ValueMatch{Name: name, Value: value, Regex: true}, checkRegex(value)
	default:
		return plan.ValueMatch{}, fmt.Errorf("match type %s is not known to this version", quote(string(t)))
	}
}

// isToken is the token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// matchWords shows a match to people, as in
// PathPrefix /api GET header x-canary="1".
func matchWords(m plan.Match) string {
	var b strings.Builder
	switch m.Path.Type {
	case plan.PathExact:
		b.WriteString("Exact ")
	case plan.PathPrefix:
		b.WriteString("PathPrefix ")
	case plan.PathRegex:
		b.WriteString("RegularExpression ")
	}
	b.WriteString(short(m.Path.Value))
	if m.Method != "" {
		b.WriteString(" " + m.Method)
	}
	for _, h := range m.Headers {
		b.WriteString(" header " + valueWords(h))
	}
	for _, q := range m.Query {
		b.WriteString(" query " + valueWords(q))
	}
	return cut(b.String(), 2*maxQuoted)
}

func valueWords(v plan.ValueMatch) string {
	operator := "="
	if v.Regex {
		operator = "=~"
	}
	return short(v.Name) + operator + quote(v.Value)
}
