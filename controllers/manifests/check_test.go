package manifests

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// Each case of testdata/check is a txtar archive of manifests, with what Check
// says about them in findings.txt.
func TestCheckFindsWhatTheGoldenCasesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/check: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := ""
			var manifests []txtar.File
			for _, f := range archive.Files {
				if f.Name == "findings.txt" {
					want = string(f.Data)
					continue
				}
				manifests = append(manifests, f)
				write(t, filepath.Join(dir, f.Name), string(f.Data))
			}
			var got strings.Builder
			for _, f := range Check(dir) {
				got.WriteString(strings.ReplaceAll(f.String(), dir+"/", "") + "\n")
			}
			if *update {
				archive.Files = append(manifests, txtar.File{Name: "findings.txt", Data: []byte(got.String())})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("findings differ (-want +got); after a look, go test -update rewrites them:\n%s", diff)
			}
		})
	}
}

// write writes a file, making its directory.
func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
