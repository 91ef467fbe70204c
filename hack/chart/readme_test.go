package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheTableHasALineForEachValueWithTheCommentAboveIt(t *testing.T) {
	got, err := readValues([]byte(`# The file.

## First

# a | b
one: 1
whole: {a: 1}
# of the group
group:
  # of a member
  member: [x]
  other: null
## Second
# two
# lines
leaf:
  a: {b: c}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{"First", "one", "1", "a | b"},
		{"First", "whole.a", "1", ""},
		{"First", "group.member", `["x"]`, "of a member"},
		{"First", "group.other", "null", ""},
		{"Second", "leaf", `{"a":{"b":"c"}}`, "two lines"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(row{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestValuesThatAreNoMappingAreRefused(t *testing.T) {
	for _, text := range []string{"", "- a\n", "a: [\n"} {
		if _, err := readValues([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
