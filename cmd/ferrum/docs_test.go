package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
)

// page reads a page of the documentation.
func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// rows returns the cells of the table whose header row is header.
func rows(t *testing.T, page, header string) (all [][]string) {
	t.Helper()
	_, after, found := strings.Cut(page, header+"\n")
	if !found {
		t.Fatalf("no table with the header %q", header)
	}
	for line := range strings.Lines(after) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(cells[0], "---") {
			continue
		}
		all = append(all, cells)
	}
	return all
}

// word is a cell's content without its backquotes.
func word(cell string) string { return strings.Trim(cell, "`") }

func TestOperationsPageListsEverySetting(t *testing.T) {
	got := rows(t, page(t, "operations.md"), "| key | flag | default | meaning |")
	want := DefaultConfig().settings()
	if len(got) != len(want) {
		t.Errorf("the page has %d settings, the process has %d", len(got), len(want))
	}
	for i, s := range want {
		flag := ""
		if s.flag != "" {
			flag = "`--" + s.flag + "`"
		}
		row := []string{"`" + s.key + "`", flag, fmt.Sprintf("`%q`", s.value.String()), s.doc}
		if i >= len(got) || strings.Join(got[i], "|") != strings.Join(row, "|") {
			t.Errorf("row %d should be | %s |", i+1, strings.Join(row, " | "))
		}
	}
}

func TestChartKnowsEverySettingOfThePodsProcess(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "charts", "ferrum-proxy", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type schema struct{ Properties map[string]*schema }
	var values schema
	if err := json.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"manifests", "kubeconfig", "watchNamespaces"} // the last is a value of its own
	known := make(map[string]bool)
	for _, s := range DefaultConfig().settings() {
		if slices.Contains(elsewhere, s.key) {
			continue
		}
		known[s.key] = true
		at := values.Properties["config"]
		for _, name := range strings.Split(s.key, ".") {
			if at = at.Properties[name]; at == nil {
				t.Errorf("values.schema.json does not know config.%s", s.key)
				at = &schema{}
			}
		}
	}
	var leaves func(at *schema, path string)
	leaves = func(at *schema, path string) {
		for name, next := range at.Properties {
			leaves(next, path+"."+name)
		}
		if key := strings.TrimPrefix(path, "."); len(at.Properties) == 0 && !known[key] {
			t.Errorf("values.schema.json knows config.%s, which the process does not", key)
		}
	}
	leaves(values.Properties["config"], "")
}

func TestOperationsPageListsEveryReasonWithItsStatusAndSide(t *testing.T) {
	got := rows(t, page(t, "operations.md"), "| reason | status | side | meaning |")
	want := proxy.Reasons()
	if len(got) != len(want) {
		t.Errorf("the page has %d reasons, the table has %d", len(got), len(want))
	}
	for i, r := range want {
		status := ""
		if r.Status() != 0 {
			status = fmt.Sprint(r.Status())
		}
		row := fmt.Sprintf("`%s`|%s|%s", r, status, r.Side())
		if i >= len(got) || strings.Join(got[i][:3], "|") != row || got[i][3] == "" {
			t.Errorf("row %d should be | %s | and what it means", i+1, strings.ReplaceAll(row, "|", " | "))
		}
	}
}

func TestRoutingPageShowsWhatTheTableDoes(t *testing.T) {
	text := page(t, "routing.md")
	_, yaml, _ := strings.Cut(text, "```yaml\n")
	yaml, _, ok := strings.Cut(yaml, "```")
	if !ok {
		t.Fatal("the page has no example")
	}
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	request := regexp.MustCompile(`^(\S+) (\S+)(?: -H '([^']+)')?$`)
	cases := rows(t, text, "| request | taken by | because of |")
	if len(cases) == 0 {
		t.Fatal("the table is empty")
	}
	for _, c := range cases {
		r := request.FindStringSubmatch(word(c[0]))
		if r == nil {
			t.Errorf("cannot read %q", c[0])
			continue
		}
		var headers []string
		if r[3] != "" {
			headers = append(headers, r[3])
		}
		q, err := newQuery(r[1], r[2], headers)
		if err != nil {
			t.Fatal(err)
		}
		e, err := explainOffline(file, q, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		got := "no rule"
		if e.Winner != nil {
			got = fmt.Sprintf("`%s` `%s`", e.Winner.Route, e.Winner.Rule)
		}
		if got != c[1] || e.DecidedBy != c[2] {
			t.Errorf("%s: taken by %s because of %s; the page says %s, %s", c[0], got, e.DecidedBy, c[1], c[2])
		}
	}
}

func TestRoutingPageShowsWhatBecomesOfPaths(t *testing.T) {
	cases := rows(t, page(t, "routing.md"), "| request path | becomes |")
	if len(cases) == 0 {
		t.Fatal("the table is empty")
	}
	for _, c := range cases {
		path := []byte(word(c[0]))
		n, err := route.CanonicalPath(path)
		got := "`" + string(path[:n]) + "`"
		if err != nil {
			got = "refused"
		}
		if got != c[1] {
			t.Errorf("%s becomes %s; the page says %s", c[0], got, c[1])
		}
	}
}
