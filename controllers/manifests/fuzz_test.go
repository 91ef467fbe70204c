package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

// Whatever is in a file, reading it neither panics nor loses a line number out
// of the file, and what comes out is valid.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, a := range archive.Files {
			f.Add(a.Data, filepath.Ext(a.Name) == ".json")
		}
	}
	for _, s := range []string{validRoute, validPolicy, validClass, "%YAML 1.1\n---\na: &a [*a]", "{\"a\":1}{", "\ufeff---\x00"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte, isJSON bool) {
		name := filepath.Join(dir, "f.yaml")
		if isJSON {
			name = filepath.Join(dir, "f.json")
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, problems := Load(name)
		lines := 1 + bytes.Count(content, []byte("\n"))
		for _, p := range problems {
			if p.Message == "" || p.Line < 0 || p.Line > lines {
				t.Errorf("%d lines, problem %#v", lines, p)
			}
		}
		for _, r := range s.Routes {
			if r.Name == "" || r.Namespace == "" || len(r.Spec.Rules) == 0 {
				t.Errorf("a route that no API server would have: %+v", r)
			}
		}
	})
}
