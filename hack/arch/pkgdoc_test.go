package arch

import (
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shortestDoc is the length, in bytes, below which a package comment cannot
// have said what the package owns, what survives a swap of tables, and who may
// call it concurrently.
const shortestDoc = 150

func TestPackageDocs(t *testing.T) {
	all := packages(t)
	for _, importPath := range slices.Sorted(maps.Keys(all)) {
		path, ok := local(importPath)
		if !ok {
			continue
		}
		docs, err := packageDocs(all[importPath])
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range docProblems(path, docs, len(all[importPath].GoFiles)) {
			t.Errorf("%s: %s", path, problem)
		}
	}
}

func TestPackageDocsCatchesWhatIsMissing(t *testing.T) {
	long := strings.Repeat("x", shortestDoc)
	for _, c := range []struct {
		path string
		docs map[string]string
		want string
	}{
		{"hack/x", map[string]string{}, "no package comment"},
		{"hack/x", map[string]string{"x.go": long}, "belongs in doc.go"},
		{"hack/x", map[string]string{"doc.go": long, "x.go": long}, "belongs in doc.go"},
		{"hack/x", map[string]string{"doc.go": "Package x owns nothing."}, "too short"},
		{"hack/x", map[string]string{"doc.go": long}, "what it owns"},
		{"hack/x", map[string]string{"doc.go": "It owns x." + long}, ""},
		{"dataplane/x", map[string]string{"doc.go": "It owns x." + long}, "concurrently"},
		{"dataplane/x", map[string]string{"doc.go": "It owns x, for concurrent use." + long}, ""},
	} {
		got := strings.Join(docProblems(c.path, c.docs, 2), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s %v: got %q, want %q", c.path, c.docs, got, c.want)
		}
	}
}

// packageDocs returns the package comments of a package's files.
func packageDocs(p *goPackage) (map[string]string, error) {
	docs := make(map[string]string)
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if doc := f.Doc.Text(); doc != "" {
			docs[name] = doc
		}
	}
	return docs, nil
}

func docProblems(path string, docs map[string]string, files int) (problems []string) {
	if len(docs) == 0 {
		return []string{"no package comment; write doc.go"}
	}
	if len(docs) > 1 || docs["doc.go"] == "" && files > 1 {
		return []string{"the package comment belongs in doc.go, and nowhere else"}
	}
	doc := ""
	for _, d := range docs {
		doc = d
	}
	words := strings.ToLower(strings.Join(strings.Fields(doc), " "))
	if len(words) < shortestDoc {
		problems = append(problems, "the package comment is too short to say what the package owns, what survives a swap and who may call it concurrently")
	}
	if !strings.Contains(words, "own") {
		problems = append(problems, "the package comment does not say what it owns")
	}
	if fits("dataplane/...", path) || fits("controllers/...", path) {
		if !strings.Contains(words, "concurren") && !strings.Contains(words, "goroutine") && !strings.Contains(words, "at the same time") {
			problems = append(problems, "the package comment does not say who may call it concurrently")
		}
	}
	return problems
}
