package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed readme.md
var readmeHead []byte

// row is a value of the chart.
type row struct {
	section string
	key     string
	value   string // its default, in JSON
	doc     string
}

// comment is a comment line of values.yaml and how deep it is indented.
var comment = regexp.MustCompile(`^( *)# ?(.*)$`)

// writeReadme returns the text of readme.md followed by a table for each section
// of values.yaml.
func writeReadme(values []byte) ([]byte, error) {
	rows, err := readValues(values)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("<!-- Made by `make generate` from values.yaml and hack/chart/readme.md. -->\n")
	b.Write(readmeHead)
	section := ""
	for _, r := range rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&b, "\n### %s\n\n| value | default | meaning |\n|---|---|---|\n", section)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", r.key, strings.ReplaceAll(r.value, "|", `\|`), strings.ReplaceAll(r.doc, "|", `\|`))
	}
	return b.Bytes(), nil
}

// readValues returns the leaves of values.yaml in their order. A mapping whose
// own comment describes it as a whole, and that has no comment inside, is a leaf.
func readValues(values []byte) ([]row, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(values, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it must be a mapping")
	}
	w := walker{docs: commentsByLine(values), sections: sectionsByLine(values)}
	err := w.mapping(doc.Content[0], "", "")
	return w.rows, err
}

type walker struct {
	docs     map[int]string // of the key in a line
	sections map[int]string // that a line begins, by the line's number
	rows     []row
}

func (w *walker) mapping(n *yaml.Node, prefix, inherited string) error {
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		doc := w.docs[key.Line]
		if doc == "" && i == 0 {
			doc = inherited
		}
		path := prefix + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && (doc == "" || w.documented(value)) {
			if err := w.mapping(value, path+".", doc); err != nil {
				return err
			}
			continue
		}
		var v any
		if err := value.Decode(&v); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		w.rows = append(w.rows, row{section: w.section(key.Line), key: path, value: string(text), doc: doc})
	}
	return nil
}

// documented says whether a key inside n has a comment of its own.
func (w *walker) documented(n *yaml.Node) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if w.docs[n.Content[i].Line] != "" {
			return true
		}
	}
	return false
}

func (w *walker) section(line int) string {
	lines := make([]int, 0, len(w.sections))
	for l := range w.sections {
		if l <= line {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return w.sections[slices.Max(lines)]
}

// commentsByLine returns the comment block right above each line, joined.
func commentsByLine(values []byte) map[int]string {
	docs := make(map[int]string)
	var block []string
	for i, line := range strings.Split(string(values), "\n") {
		if m := comment.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[2], "#") {
			block = append(block, m[2])
			continue
		}
		if len(block) > 0 {
			docs[i+1] = strings.Join(block, " ")
		}
		block = nil
	}
	return docs
}

func sectionsByLine(values []byte) map[int]string {
	sections := make(map[int]string)
	for i, line := range strings.Split(string(values), "\n") {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			sections[i+1] = title
		}
	}
	return sections
}
