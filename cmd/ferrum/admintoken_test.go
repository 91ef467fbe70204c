package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
)

// mountedSecret is a directory as the kubelet mounts a Secret: the files are links
// through one link that it replaces, so that a change is one step.
type mountedSecret string

func mountSecret(t *testing.T, token string) mountedSecret {
	t.Helper()
	m := mountedSecret(t.TempDir())
	m.put(t, token, time.Now())
	if err := os.Symlink("..data/token", m.file()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m mountedSecret) file() string { return filepath.Join(string(m), "token") }

// put makes token what the file has, as written at a time.
func (m mountedSecret) put(t *testing.T, token string, at time.Time) {
	t.Helper()
	dir, err := os.MkdirTemp(string(m), "..")
	if err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "token"), filepath.Join(string(m), "..data_tmp")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(dir), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(string(m), "..data")); err != nil {
		t.Fatal(err)
	}
}

func TestATokenThatChangesCountsAtOnceAndTheOneBeforeForAWhile(t *testing.T) {
	start := time.Now().Add(-time.Hour)
	m := mountSecret(t, "one\n")
	var lines []string
	a, err := newAdminToken(m.file(), funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		at   time.Duration
		put  string // "" = nothing is written
		want []string
	}{
		{0, "", []string{"one"}},
		{time.Minute, "two", []string{"two", "one"}},
		{time.Minute + tokenOverlap - 1, "", []string{"two", "one"}},
		{time.Minute + tokenOverlap, "", []string{"two"}},
		{time.Minute, "", []string{"two"}}, // a clock that is set back makes nothing count again
		{20 * time.Minute, "three", []string{"three", "two"}},
		{21 * time.Minute, "four", []string{"four", "three"}},
		{22 * time.Minute, " \n", []string{"four", "three"}}, // no token is none that is good
		{23 * time.Minute, "no\ttoken", []string{"four", "three"}},
		{40 * time.Minute, "", []string{"four"}},
		{50 * time.Minute, "five", []string{"five", "four"}},
	} {
		at := start.Add(step.at)
		if step.put != "" {
			m.put(t, step.put, at)
		}
		for range 2 {
			if got := a.tokens(at); !slices.Equal(got, step.want) {
				t.Fatalf("step %d: %q, want %q", i, got, step.want)
			}
		}
	}
	if len(lines) != 6 { // four changes, two files that are not good
		t.Errorf("logged %q", lines)
	}
	// Whoever had the one before learns nothing by being the first to ask in a day.
	m.put(t, "six", start)
	if got := a.tokens(start.Add(24 * time.Hour)); !slices.Equal(got, []string{"six"}) {
		t.Errorf("a day after it was written: %q", got)
	}
}

func TestATokenFileThatIsNotGoodAtTheStartIsAnError(t *testing.T) {
	if _, err := newAdminToken(mountSecret(t, "").file(), funcr.New(func(string, string) {}, funcr.Options{})); err == nil {
		t.Error("no error")
	}
}
