package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// document is one document of a file.
type document struct {
	text []byte
	line int // of its first byte, from 1
}

// fault is a problem before it is known which file and object it is of.
type fault struct {
	line    int
	message string
}

// splitYAML cuts a YAML stream at its document markers (YAML 1.2, 9.1). What
// follows "---" on its line belongs to the document.
func splitYAML(data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var docs []document
	current := document{line: 1}
	start, line := 0, 1
	flush := func(end int) {
		current.text = data[start:end]
		if !blank(current.text) {
			docs = append(docs, current)
		}
	}
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if marker := data[at:end]; isMarker(marker, "---") {
			flush(at)
			start, current = at+len("---"), document{line: line}
		} else if isMarker(marker, "...") {
			flush(at)
			start, current = end, document{line: line + 1}
		}
		at = end
	}
	flush(len(data))
	return docs
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// blank says that there is nothing but comments and directives.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// parsed is the content of a document.
type parsed struct {
	value any       // as encoding/json has it, integers as int64
	lines lineIndex // where its fields are
}

// parseYAML reads a document as kubectl does.
func (d document) parseYAML() (parsed, []fault) {
	text := bytes.TrimPrefix(d.text, []byte("\ufeff"))
	raw, err := yaml.YAMLToJSONStrict(withoutDirectives(text))
	if err != nil {
		return parsed{}, d.yamlFaults(err)
	}
	var p parsed
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &p.value); err != nil {
		return parsed{}, []fault{{d.line, err.Error()}}
	}
	p.lines = newLineIndex(text, d.line-1)
	return p, nil
}

// withoutDirectives blanks the %YAML and %TAG lines before a document: without
// the marker that followed them they would be errors.
func withoutDirectives(text []byte) []byte {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("%")) {
		return text
	}
	var out []byte
	for line := range bytes.Lines(text) {
		if line[0] == '%' {
			line = []byte("\n")
		}
		out = append(out, line...)
	}
	return out
}

// lineInError finds the line in the messages of the YAML parser.
var lineInError = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:)?\s*(?:line (\d+): )?`)

// yamlFaults splits an error of the parser into its lines.
func (d document) yamlFaults(err error) (faults []fault) {
	for text := range strings.SplitSeq(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "\n") {
		m := lineInError.FindStringSubmatchIndex(text)
		message := text[m[1]:]
		if message == "" {
			continue
		}
		f := fault{d.line, message}
		if m[2] >= 0 {
			if n, err := strconv.Atoi(text[m[2]:m[3]]); err == nil {
				// The parser takes a lone CR for the end of a line.
				f.line = min(d.line+n-1, d.line+bytes.Count(d.text, []byte("\n")))
			}
		}
		faults = append(faults, f)
	}
	if len(faults) == 0 {
		faults = []fault{{d.line, err.Error()}}
	}
	return faults
}

// parseJSON reads a stream of JSON values and calls each with every one.
func parseJSON(data []byte, each func(parsed)) []fault {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return []fault{{jsonErrorLine(data, decoder.InputOffset(), err), "not JSON: " + err.Error()}}
		}
		line := lineAt(data, decoder.InputOffset()-int64(len(raw)))
		p := parsed{lines: newLineIndex(raw, line-1)}
		strict, err := kjson.UnmarshalStrict(raw, &p.value)
		if err != nil {
			return []fault{{line, "not JSON: " + err.Error()}}
		}
		if len(strict) > 0 {
			faults := make([]fault, len(strict))
			for i, e := range strict {
				faults[i] = fault{p.lines.of(fieldPath(e)), e.Error()}
			}
			return faults
		}
		each(p)
	}
}

func jsonErrorLine(data []byte, offset int64, err error) int {
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = se.Offset
	}
	return lineAt(data, offset)
}

// lineAt returns the line of a byte, from 1.
func lineAt(data []byte, offset int64) int {
	offset = max(0, min(offset, int64(len(data))))
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// fieldPath returns the path of an error of strict decoding.
func fieldPath(err error) string {
	if fe, ok := errors.AsType[kjson.FieldError](err); ok {
		return fe.FieldPath()
	}
	return ""
}

// lineIndex tells on which line a field is. The zero lineIndex knows nothing.
type lineIndex struct {
	root   *yamlv3.Node
	before int // lines before the text
	first  int // of the document, for what is not found
	last   int // of the text: the parser takes a lone CR for the end of a line
}

// newLineIndex reads text once more, with a parser that keeps positions. One
// that it does not like has no lines.
func newLineIndex(text []byte, before int) lineIndex {
	x := lineIndex{before: before, first: before + 1, last: before + 1 + bytes.Count(text, []byte("\n"))}
	var doc yamlv3.Node
	if yamlv3.Unmarshal(text, &doc) == nil && doc.Kind == yamlv3.DocumentNode && len(doc.Content) > 0 {
		x.root = doc.Content[0]
		x.first = min(before+x.root.Line, x.last)
	}
	return x
}

// at returns the index of what a path leads to.
func (x lineIndex) at(path string) lineIndex {
	node, line := x.find(path)
	return lineIndex{root: node, before: x.before, first: line, last: x.last}
}

// of returns the line of a field, or of the nearest thing around it that is
// there.
func (x lineIndex) of(path string) int {
	_, line := x.find(path)
	return line
}

func (x lineIndex) find(path string) (*yamlv3.Node, int) {
	node, line := x.root, x.first
	for _, step := range splitPath(path) {
		if node != nil && node.Kind == yamlv3.AliasNode {
			node = node.Alias
		}
		key, value := child(node, step)
		if value == nil {
			return nil, line
		}
		node, line = value, min(x.before+key.Line, x.last)
	}
	return node, line
}

// child returns the key and the value of a step; of a list both are the item.
func child(node *yamlv3.Node, step string) (key, value *yamlv3.Node) {
	switch {
	case node == nil:
	case node.Kind == yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
	case node.Kind == yamlv3.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}

// splitPath cuts spec.rules[0].matches and metadata.labels[a.b/c] into steps.
func splitPath(path string) (steps []string) {
	for path != "" {
		var step string
		switch end := strings.IndexAny(path, ".["); {
		case path[0] == '[':
			var ok bool
			if step, path, ok = strings.Cut(path[1:], "]"); !ok {
				return steps
			}
			path = strings.TrimPrefix(path, ".")
		case end < 0:
			step, path = path, ""
		case path[end] == '.':
			step, path = path[:end], path[end+1:]
		default:
			step, path = path[:end], path[end:]
		}
		if step != "" {
			steps = append(steps, step)
		}
	}
	return steps
}

// objectsOf yields the objects of a document: itself, or the items of a list.
func objectsOf(p parsed) (items []parsed, faults []fault) {
	if p.value == nil {
		return nil, nil
	}
	m, ok := p.value.(map[string]any)
	if !ok {
		return nil, []fault{{p.lines.first, "not an object: a document must be a mapping with apiVersion, kind and metadata"}}
	}
	kind, _ := m["kind"].(string)
	itemKind, isList := strings.CutSuffix(kind, "List")
	list, hasItems := m["items"].([]any)
	if !isList || !hasItems && m["items"] != nil {
		return []parsed{p}, nil
	}
	apiVersion, _ := m["apiVersion"].(string)
	for i, item := range list {
		lines := p.lines.at(fmt.Sprintf("items[%d]", i))
		o, ok := item.(map[string]any)
		if !ok {
			faults = append(faults, fault{lines.first, fmt.Sprintf("items[%d] is not an object", i)})
			continue
		}
		if itemKind != "" && o["kind"] == nil && o["apiVersion"] == nil {
			o["kind"], o["apiVersion"] = itemKind, apiVersion // as in a ProxyRouteList
		}
		one, more := objectsOf(parsed{value: o, lines: lines})
		items, faults = append(items, one...), append(faults, more...)
	}
	return items, faults
}
