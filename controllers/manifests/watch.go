package manifests

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

const (
	// quiet is how long nothing may happen before files are read again: an
	// editor or a volume makes several changes that belong together.
	quiet = 75 * time.Millisecond
	// impatience is how long a reload waits at most for quiet.
	impatience = time.Second
)

// Watch reads the files of path, a file or a directory, as Load does, and calls
// changed with what they hold: once before it looks for changes, and then after
// every change of content or of problems, from one goroutine, until ctx ends;
// then it returns nil. It returns an error when path does not exist at the
// start or cannot be watched.
//
// Bad input loses nothing. A file with an error, or one that cannot be read,
// keeps the objects that it had, and so does one that has become empty, as it is
// while it is written in place. A new file has none: half of what was
// meant could send requests to a rule that is more permissive. If path itself
// disappears, all of it stays until it comes back. So the snapshot may be
// applied whatever the problems; a caller that prefers all or nothing keeps the
// snapshot before when a problem has severity Error.
//
// Directories are watched, not files, so that replacing a file by renaming, the
// switch of a ConfigMap volume from one ..data to the next, and directories
// that are removed and made again are seen.
func Watch(ctx context.Context, path string, changed func(translate.Snapshot, []Problem)) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer notify.Close()
	w := &watcher{path: filepath.Clean(path), dirs: newDirWatch(notify), files: make(map[string]*watchedFile)}
	w.reload()
	if len(w.dirs.failed) > 0 {
		return fmt.Errorf("watch %s", w.dirs.failed[0])
	}
	changed(w.assembler.snapshot, w.problems)
	return w.run(ctx, notify, changed)
}

// watcher is one call of Watch.
type watcher struct {
	path      string
	dirs      *dirWatch
	files     map[string]*watchedFile
	order     []string // of the files
	assembler assembler
	problems  []Problem
}

// watchedFile is what counts of a file.
type watchedFile struct {
	sum      [sha256.Size]byte // of the content
	objects  []object
	problems []Problem
}

// run reloads after each change.
func (w *watcher) run(ctx context.Context, notify *fsnotify.Watcher, changed func(translate.Snapshot, []Problem)) error {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var since time.Time // of the first event that was not yet acted on
	arm := func() {
		if since.IsZero() {
			since = time.Now()
		}
		timer.Reset(max(0, min(quiet, impatience-time.Since(since))))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-notify.Events:
			if !ok {
				return errors.New("the file watcher was closed")
			}
			if w.dirs.concerns(e.Name) {
				arm()
			}
		case _, ok := <-notify.Errors:
			if !ok {
				return errors.New("the file watcher was closed")
			}
			arm() // events may have been lost: look at everything
		case <-timer.C:
			since = time.Time{}
			if w.reload() {
				changed(w.assembler.snapshot, w.problems)
			}
		}
	}
}

// reload looks at everything and says whether the objects or the problems are
// others than before. A file whose content is the same is not parsed again.
func (w *watcher) reload() (changed bool) {
	s := w.scan()
	problems := slices.Clone(w.dirs.failed)
	names := w.kept(&s)
	for _, p := range s.problems {
		if len(names) > 0 {
			p.Message += "; what was read of it before is kept"
		}
		problems = append(problems, p)
	}
	for _, name := range s.files {
		known, fileChanged := w.read(name)
		if known {
			names = append(names, name)
		}
		changed = changed || fileChanged
	}
	slices.Sort(names)
	changed = changed || !slices.Equal(names, w.order)
	w.order = names
	for name := range w.files {
		if _, found := slices.BinarySearch(names, name); !found {
			delete(w.files, name)
		}
	}

	files := make([]*file, len(names))
	for i, name := range names {
		files[i] = &file{name: name, objects: w.files[name].objects, problems: w.files[name].problems}
	}
	w.assembler.addFiles(files)
	problems = sorted(append(problems, w.assembler.problems...))
	changed = changed || !slices.Equal(problems, w.problems)
	w.problems = problems
	return changed
}

// scan finds the files and watches their directories. What is made between the
// look at a directory and the watch on it gives no event, so that after a new
// watch it looks again.
func (w *watcher) scan() scan {
	for {
		var s scan
		s.add(w.path)
		if added := w.dirs.set(w.path, &s); !added {
			return s
		}
	}
}

// kept returns the files of before that may still be there: those at or below
// what the scan could not look at, and all of them when path itself is gone.
func (w *watcher) kept(s *scan) (names []string) {
	for _, name := range w.order {
		if slices.ContainsFunc(s.problems, func(p Problem) bool { return isAtOrBelow(name, p.File) }) {
			names = append(names, name)
		}
	}
	return names
}

func isAtOrBelow(name, path string) bool {
	rest, ok := strings.CutPrefix(name, path)
	return ok && (rest == "" || rest[0] == filepath.Separator || strings.HasSuffix(path, string(filepath.Separator)))
}

// read reads a file, and says whether it is there and whether it changed.
func (w *watcher) read(name string) (known, changed bool) {
	content, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false // gone since the scan; its event is under way
	}
	f := w.files[name]
	if f == nil {
		f = &watchedFile{}
		w.files[name] = f
		changed = true
	}
	if err != nil {
		// The problems tell the difference.
		f.sum, f.problems = [sha256.Size]byte{}, []Problem{{File: name, Message: err.Error()}}
		return true, changed
	}
	sum := sha256.Sum256(content)
	if f.sum == sum && !changed {
		return true, false
	}
	if len(content) == 0 && len(f.objects) > 0 {
		// What writes in place empties the file first, and may take its time.
		f.sum, f.problems = sum, []Problem{{File: name, Message: "is empty; the objects that it had are kept: to remove them, remove the file"}}
		return true, true
	}
	p := parseFile(name, content)
	f.sum, f.problems = sum, p.problems
	if !hasError(p.problems) {
		f.objects = p.objects
	}
	return true, true
}
