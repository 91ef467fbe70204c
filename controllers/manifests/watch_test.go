package manifests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

// patience bounds how long a test waits for what must come.
const patience = 30 * time.Second

// state is what a Watch said last.
type state struct {
	translate.Snapshot
	problems []Problem
}

func (s state) classes() string { return classesOf(s.Classes) }

func (s state) problemWords() string {
	var words []string
	for _, p := range s.problems {
		words = append(words, p.String())
	}
	return strings.Join(words, "\n")
}

// watching is a Watch in the background.
type watching struct {
	t      *testing.T
	states chan state
}

func watch(t *testing.T, path string) *watching {
	t.Helper()
	w := &watching{t: t, states: make(chan state, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, path, func(s translate.Snapshot, problems []Problem) { w.states <- state{s, problems} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return w
}

// until waits for a state that has exactly these classes, and whose problems,
// if problem is not empty, contain it, or are none.
func (w *watching) until(classes, problem string) state {
	w.t.Helper()
	deadline := time.After(patience)
	var last state
	for {
		select {
		case last = <-w.states:
			matches := problem == "" && len(last.problems) == 0 || problem != "" && strings.Contains(last.problemWords(), problem)
			if last.classes() == classes && matches {
				return last
			}
		case <-deadline:
			w.t.Fatalf("no state with classes %q and problem %q; the last had %q and\n%s", classes, problem, last.classes(), last.problemWords())
		}
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesFilesComeChangeAndGo(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	write(t, a, classNamed("one"))
	w := watch(t, dir)
	w.until("one", "")
	write(t, a, classNamed("two")) // in place
	w.until("two", "")
	write(t, b, classNamed("three"))
	w.until("three two", "")
	write(t, filepath.Join(dir, ".b.yaml.new"), classNamed("four")) // as editors do
	rename(t, filepath.Join(dir, ".b.yaml.new"), b)
	w.until("four two", "")
	rename(t, a, a+"~")
	w.until("four", "")
	rename(t, a+"~", a)
	w.until("four two", "")
	remove(t, a)
	w.until("four", "")
	write(t, a, classNamed("five"))
	w.until("five four", "")
	rename(t, b, filepath.Join(dir, "c.yaml"))
	remove(t, a)
	w.until("four", "")
}

func TestWatchSeesDirectoriesComeAndGo(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, dir)
	w.until("", "")
	write(t, filepath.Join(dir, "x", "y", "a.yaml"), classNamed("deep"))
	w.until("deep", "")
	write(t, filepath.Join(dir, "x", "y", "b.yaml"), classNamed("deeper"))
	w.until("deep deeper", "")
	rename(t, filepath.Join(dir, "x"), filepath.Join(dir, ".x"))
	w.until("", "")
	write(t, filepath.Join(dir, "x", "y", "a.yaml"), classNamed("again"))
	w.until("again", "")
	// The directory that moved away is not ours any more, the new one is.
	write(t, filepath.Join(dir, ".x", "y", "b.yaml"), classNamed("gone"))
	write(t, filepath.Join(dir, "x", "y", "b.yaml"), classNamed("new"))
	w.until("again new", "")
	remove(t, filepath.Join(dir, "x"))
	w.until("", "")
}

func TestWatchKeepsEverythingWhilePathIsGone(t *testing.T) {
	for _, kind := range []string{"directory", "file", "deep"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "manifests")
			file, gone := path, path
			if kind != "file" {
				file = filepath.Join(path, "a.yaml")
			}
			if kind == "deep" {
				path = filepath.Join(path, "below")
				file = filepath.Join(path, "a.yaml")
			}
			write(t, file, classNamed("one"))
			w := watch(t, path)
			w.until("one", "")
			remove(t, gone)
			w.until("one", "no such file or directory; what was read of it before is kept")
			write(t, file, classNamed("two"))
			w.until("two", "")
		})
	}
}

// configMap is a directory as kubelet makes it: the files are links to ..data/,
// which is a link to a directory that is replaced as a whole.
type configMap struct {
	t   *testing.T
	dir string
	n   int
}

func (c *configMap) publish(files map[string]string) {
	c.t.Helper()
	old, _ := os.Readlink(filepath.Join(c.dir, "..data"))
	c.n++
	version := fmt.Sprintf("..2026_01_02_%d", c.n)
	for name, content := range files {
		write(c.t, filepath.Join(c.dir, version, name), content)
	}
	link(c.t, version, filepath.Join(c.dir, "..data_tmp"))
	rename(c.t, filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data"))
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		if _, err := os.Lstat(filepath.Join(c.dir, top)); err != nil {
			link(c.t, filepath.Join("..data", top), filepath.Join(c.dir, top))
		}
	}
	if old != "" {
		remove(c.t, filepath.Join(c.dir, old))
	}
}

func TestWatchFollowsAConfigMapVolume(t *testing.T) {
	for name, path := range map[string]string{"volume": ".", "file": "a.yaml", "directory in it": "sub"} {
		t.Run(name, func(t *testing.T) {
			c := &configMap{t: t, dir: t.TempDir()}
			c.publish(map[string]string{"a.yaml": classNamed("a-1"), "sub/b.yaml": classNamed("b-1")})
			w := watch(t, filepath.Join(c.dir, path))
			for n := 1; n <= 3; n++ {
				want := map[string]string{".": fmt.Sprintf("a-%d b-%d", n, n), "a.yaml": fmt.Sprintf("a-%d", n), "sub": fmt.Sprintf("b-%d", n)}
				w.until(want[path], "")
				c.publish(map[string]string{"a.yaml": classNamed(fmt.Sprintf("a-%d", n+1)), "sub/b.yaml": classNamed(fmt.Sprintf("b-%d", n+1))})
			}
		})
	}
}

func TestWatchFollowsLinksToOtherDirectories(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, filepath.Join(other, "a.yaml"), classNamed("one"))
	write(t, filepath.Join(other, "sub", "b.yaml"), classNamed("below"))
	link(t, filepath.Join(other, "a.yaml"), filepath.Join(dir, "a.yaml"))
	link(t, filepath.Join(other, "sub"), filepath.Join(dir, "sub"))
	w := watch(t, dir)
	w.until("below one", "")
	write(t, filepath.Join(other, "a.yaml"), classNamed("two"))
	w.until("below two", "")
	write(t, filepath.Join(other, "sub", "c.yaml"), classNamed("more"))
	w.until("below more two", "")
}

func TestWatchKeepsTheObjectsOfAFileThatBreaks(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml"), filepath.Join(dir, "c.yaml")
	write(t, a, classNamed("a-1")+"---\n"+classNamed("a-2"))
	write(t, b, classNamed("b-1"))
	w := watch(t, dir)
	w.until("a-1 a-2 b-1", "")

	write(t, a, classNamed("a-3")+"---\nspec: [\n")
	w.until("a-1 a-2 b-1", "a.yaml:5: ")
	write(t, b, classNamed("b-2")) // the other files go on
	w.until("a-1 a-2 b-2", "a.yaml:5: ")
	write(t, a, classNamed("a-3")+"spec: {allowed: []}\n")
	w.until("a-1 a-2 b-2", `a.yaml:4: ProxyClass a-3: unknown field "spec.allowed"`)
	write(t, a, classNamed("a-4"))
	w.until("a-4 b-2", "")

	remove(t, a) // a link to nothing cannot be read
	link(t, "nowhere", filepath.Join(dir, "link"))
	rename(t, filepath.Join(dir, "link"), a)
	w.until("a-4 b-2", "a.yaml: no such file or directory")
	remove(t, a)
	w.until("b-2", "")

	// Of a file that never was good nothing is served: the half that is valid may
	// be the permissive one.
	write(t, filepath.Join(dir, ".c"), classNamed("c-1")+"---\n"+classNamed("C"))
	rename(t, filepath.Join(dir, ".c"), c)
	w.until("b-2", "c.yaml:7: ProxyClass C")
	write(t, c, classNamed("c-2"))
	w.until("b-2 c-2", "")
}

// A file that is written in place is empty for a moment, which on a busy machine
// is long enough to be seen.
func TestWatchKeepsTheObjectsOfAFileThatIsEmptied(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a.yaml")
	write(t, a, classNamed("one"))
	w := watch(t, dir)
	w.until("one", "")
	write(t, a, "")
	w.until("one", "a.yaml: is empty; the objects that it had are kept")
	write(t, a, "spec: [\n") // half of what is to come
	w.until("one", "a.yaml:")
	write(t, a, "")
	w.until("one", "a.yaml: is empty")
	write(t, a, classNamed("two"))
	w.until("two", "")
	write(t, a, "# nothing, on purpose\n")
	w.until("", "")
}

func TestWatchKeepsThePointersOfFilesThatDidNotChange(t *testing.T) {
	dir := t.TempDir()
	route := "apiVersion: ferrum.dev/v1alpha1\nkind: ProxyRoute\nmetadata: {name: r, namespace: shop}\nspec: {rules: [{backendRefs: [{name: web, port: 80}]}]}\n"
	write(t, filepath.Join(dir, "a.yaml"), classNamed("one")+"---\n"+route)
	w := watch(t, dir)
	first := w.until("one", "")
	write(t, filepath.Join(dir, "b.yaml"), classNamed("two"))
	second := w.until("one two", "")
	if first.Routes[0] != second.Routes[0] || first.Classes[0] != second.Classes[0] || first.Namespaces[0] != second.Namespaces[0] {
		t.Error("objects of a file that did not change have other pointers")
	}
	if len(first.Classes) != 1 {
		t.Error("an earlier snapshot was changed")
	}
}

func TestReloadSaysNothingWhenNothingChanged(t *testing.T) {
	dir := t.TempDir()
	a, broken := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "broken.yaml")
	write(t, a, classNamed("one"))
	write(t, broken, "a: [")
	w := &watcher{path: dir, dirs: testDirWatch(t), files: make(map[string]*watchedFile)}
	expect := func(what string, want bool) {
		t.Helper()
		if got := w.reload(); got != want {
			t.Errorf("%s: reload says %v, want %v; problems %v", what, got, want, w.problems)
		}
	}
	expect("at the start", true)
	expect("nothing", false)
	write(t, a, classNamed("one"))
	expect("the same content", false)
	write(t, filepath.Join(dir, "notes.txt"), "a: [")
	expect("a file that is no manifest", false)
	write(t, broken, "a: {")
	expect("another error", true)
	expect("the same error", false)
	write(t, a, "# one\n"+classNamed("one"))
	expect("other content", true)
	remove(t, dir)
	expect("path is gone", true)
	expect("path is still gone", false)
}

func TestWatchOfAMissingPathFails(t *testing.T) {
	err := Watch(t.Context(), filepath.Join(t.TempDir(), "missing"), func(translate.Snapshot, []Problem) { t.Error("called") })
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("Watch: %v", err)
	}
}
