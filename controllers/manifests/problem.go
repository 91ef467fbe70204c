package manifests

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity of a Problem.
type Severity int

const (
	// Error stands for something that an API server would refuse, or that does
	// not do what its author asked for.
	Error Severity = iota
	// Warning stands for something that was left out and may well be meant so.
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is something to tell the author of a file.
type Problem struct {
	// File as it was found, and the line in it; 0 when the problem has none.
	File string
	Line int
	// Object is "Kind namespace/name" where an object is concerned.
	Object   string
	Severity Severity
	Message  string
}

// Finding is what Check tells of.
type Finding = Problem

// String returns "file:line: kind ns/name: message", with what is known.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	if s != "" {
		s += ": "
	}
	if p.Object != "" {
		s += p.Object + ": "
	}
	if p.Severity == Warning {
		s += "warning: "
	}
	return s + p.Message
}

// sorted puts problems into the order of files and lines, each once.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Object, b.Object),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.Compact(problems)
}

// hasError says whether any problem is an error.
func hasError(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}
