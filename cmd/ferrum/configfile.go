package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readConfigFile sets the settings that a YAML file gives. It is strict: an
// unknown, repeated or empty key and a value that its setting refuses are all
// reported, each as "file:line: what is wrong".
func readConfigFile(file string, settings []setting) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // an empty file changes nothing
	} else if err != nil {
		return fmt.Errorf("config file %s: %w", file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("config file %s: more than one YAML document", file)
	}
	r := configReader{file: file, settings: settings}
	r.mapping(doc.Content[0], "")
	return errors.Join(r.errs...)
}

// configReader walks the file's mappings and sets what it finds.
type configReader struct {
	file     string
	settings []setting
	errs     []error
}

func (r *configReader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...)))
}

// mapping reads the keys under prefix, which is "" or ends in a dot.
func (r *configReader) mapping(n *yaml.Node, prefix string) {
	if isNull(n) {
		return // "admin:" with everything under it commented out
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping of %s", describe(prefix), r.known(prefix))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if seen[path] {
			r.fail(key, "key %q occurs twice", path)
			continue
		}
		seen[path] = true
		r.value(key, value, path)
	}
}

func (r *configReader) value(key, value *yaml.Node, path string) {
	for _, s := range r.settings {
		switch {
		case s.key == path:
			r.set(value, s)
			return
		case strings.HasPrefix(s.key, path+"."):
			r.mapping(value, path+".")
			return
		}
	}
	prefix := path[:strings.LastIndexByte(path, '.')+1]
	r.fail(key, "unknown key %q; %s has %s", path, describe(prefix), r.known(prefix))
}

func (r *configReader) set(n *yaml.Node, s setting) {
	if l, ok := s.value.(list); ok && n.Kind == yaml.SequenceNode {
		r.items(n, s.key, l)
		return
	}
	switch {
	case isNull(n):
		r.fail(n, `%s has no value; remove the key, or write "" for an empty one`, s.key)
	case n.Kind != yaml.ScalarNode:
		r.fail(n, "%s must be a single value", s.key)
	default:
		if err := s.value.Set(n.Value); err != nil {
			r.fail(n, "%s: %v", s.key, err)
		}
	}
}

// items reads a YAML list.
func (r *configReader) items(n *yaml.Node, key string, l list) {
	var items []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Value == "" {
			r.fail(item, "%s must be a list of single values", key)
			return
		}
		items = append(items, item.Value)
	}
	if err := l.setList(items); err != nil {
		r.fail(n, "%s: %v", key, err)
	}
}

// known lists the keys one level under prefix.
func (r *configReader) known(prefix string) string {
	var keys []string
	for _, s := range r.settings {
		rest, ok := strings.CutPrefix(s.key, prefix)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, ".")
		if len(keys) == 0 || keys[len(keys)-1] != name {
			keys = append(keys, name)
		}
	}
	return strings.Join(keys, ", ")
}

func describe(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return strings.TrimSuffix(prefix, ".")
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
