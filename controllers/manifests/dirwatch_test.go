package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

func testDirWatch(t *testing.T) *dirWatch {
	t.Helper()
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := notify.Close(); err != nil {
			t.Error(err)
		}
	})
	return newDirWatch(notify)
}

// look scans path and watches what it finds.
func (d *dirWatch) look(path string) (added bool) {
	var s scan
	s.add(path)
	return d.set(path, &s)
}

func TestOnlyEventsOnTheWayOrAmongTheFilesConcern(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "manifests")
	write(t, filepath.Join(dir, "sub", "a.yaml"), classNamed("one"))
	link(t, "manifests", filepath.Join(base, "link"))
	concerns := func(path string, events map[string]bool) {
		t.Helper()
		d := testDirWatch(t)
		d.look(path)
		for name, want := range events {
			if got := d.concerns(name); got != want {
				t.Errorf("an event on %s concerns %s: %v, want %v", name, path, got, want)
			}
		}
	}
	concerns(dir, map[string]bool{
		dir: true, filepath.Join(dir, "x"): true, filepath.Join(dir, "sub", "x"): true, filepath.Join(dir, "sub"): true,
		filepath.Join(base, "x"): false, filepath.Join(base, "manifests.log"): false,
	})
	// A link may lead through any other link beside it, as in a ConfigMap volume.
	concerns(filepath.Join(base, "link"), map[string]bool{filepath.Join(base, "x"): true})
	concerns(filepath.Join(dir, "sub", "a.yaml"), map[string]bool{filepath.Join(dir, "sub", "x"): true, filepath.Join(dir, "x"): false})
	concerns(filepath.Join(base, "missing", "too"), map[string]bool{filepath.Join(base, "missing"): true})
}

func TestDirectoriesAreWatchedAsLongAsTheyMatter(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "manifests")
	deep := filepath.Join(dir, "sub", "deep")
	write(t, filepath.Join(deep, "a.yaml"), classNamed("one"))
	d := testDirWatch(t)
	expect := func(what string, want bool) {
		t.Helper()
		if got := d.look(dir); got != want {
			t.Errorf("%s: a watch was added: %v, want %v", what, got, want)
		}
	}
	expect("at first", true)
	expect("nothing new", false)

	write(t, filepath.Join(dir, "new", "b.yaml"), classNamed("two"))
	expect("a new directory", true)
	rename(t, filepath.Join(dir, "new"), filepath.Join(base, "moved"))
	expect("a directory that moved away", false)
	if slices.Contains(d.notify.WatchList(), filepath.Join(dir, "new")) {
		t.Error("a directory that moved away is still watched")
	}

	other := t.TempDir()
	link(t, other, filepath.Join(dir, "link"))
	expect("a link to a directory", true)
	remove(t, filepath.Join(dir, "link"))
	expect("the link is gone", false)
	if slices.Contains(d.notify.WatchList(), other) {
		t.Error("what a link led to is still watched")
	}

	rename(t, filepath.Join(dir, "sub"), filepath.Join(base, "sub"))
	write(t, filepath.Join(deep, "a.yaml"), classNamed("one"))
	expect("other directories of the same names", true)
	expect("nothing new", false)

	remove(t, deep)
	d.waitForEnd(t, deep)
	write(t, filepath.Join(deep, "a.yaml"), classNamed("one"))
	info, err := os.Stat(deep)
	if err != nil {
		t.Fatal(err)
	}
	d.watched[deep] = info // the new directory has got the inode of the old one
	expect("a directory whose watch has ended", true)
}

// waitForEnd waits until the watch on a directory has ended.
func (d *dirWatch) waitForEnd(t *testing.T, dir string) {
	t.Helper()
	deadline := time.After(patience)
	for slices.Contains(d.notify.WatchList(), dir) {
		select {
		case <-d.notify.Events:
		case err := <-d.notify.Errors:
			t.Fatal(err)
		case <-deadline:
			t.Fatalf("%s is still watched", dir)
		}
	}
}
