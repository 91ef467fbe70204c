package manifests

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// dirWatch watches the directories that matter for a path. It names them by
// their real paths: watching one directory by two names would be one watch with
// a name that nobody can tell.
type dirWatch struct {
	notify *fsnotify.Watcher
	// watched is what is watched and what it was: another directory may have
	// taken the name.
	watched map[string]fs.FileInfo
	// content is the directories in which every event concerns us. Others are
	// on the way to the path, watched to see it come and go.
	content map[string]bool
	// wayIn is the path itself as events have it; "" when every event on the
	// way concerns us.
	wayIn  string
	failed []Problem
}

func newDirWatch(notify *fsnotify.Watcher) *dirWatch {
	return &dirWatch{notify: notify, watched: make(map[string]fs.FileInfo)}
}

// set watches what a scan of path has found, and nothing else. It says whether
// a watch was added.
func (d *dirWatch) set(path string, s *scan) (added bool) {
	d.content = make(map[string]bool)
	for _, dir := range s.dirs {
		if r, ok := realPath(dir); ok {
			d.content[r] = true
		}
	}
	for _, name := range s.files {
		// Beside the link and beside what it leads to.
		if r, ok := realPath(filepath.Dir(name)); ok {
			d.content[r] = true
		}
		if r, ok := realPath(name); ok {
			d.content[filepath.Dir(r)] = true
		}
	}
	way := d.way(path)
	d.failed = nil
	alive := d.notify.WatchList()
	for dir, was := range d.watched {
		info, err := os.Stat(dir)
		// A watch ends with its directory; a new one may even have the inode of
		// the old.
		same := err == nil && os.SameFile(info, was) && slices.Contains(alive, dir)
		if !same || !d.content[dir] && dir != way {
			_ = d.notify.Remove(dir) // an error: there was none
			delete(d.watched, dir)
		}
	}
	for dir := range d.content {
		new, err := d.add(dir)
		if err != nil {
			d.failed = append(d.failed, Problem{File: dir, Message: "changes are not seen: " + err.Error()})
		}
		added = added || new
	}
	if way != "" {
		// A parent that we may not watch only hides that path is replaced.
		new, _ := d.add(way)
		added = added || new
	}
	return added
}

// add watches a directory unless it is watched.
func (d *dirWatch) add(dir string) (added bool, err error) {
	if _, ok := d.watched[dir]; ok {
		return false, nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // the next scan will not have it
	}
	if err == nil {
		err = d.notify.Add(dir)
	}
	if err != nil {
		return false, err
	}
	d.watched[dir] = info
	return true, nil
}

// way returns the directory in which path, or the next part of the way to it,
// would appear.
func (d *dirWatch) way(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	d.wayIn = ""
	parent := filepath.Dir(abs)
	if r, ok := realPath(parent); ok {
		// A link may lead through others beside it.
		if info, err := os.Lstat(abs); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			d.wayIn = filepath.Join(r, filepath.Base(abs))
		}
		return r
	}
	for parent != filepath.Dir(parent) {
		parent = filepath.Dir(parent)
		if r, ok := realPath(parent); ok {
			return r
		}
	}
	return ""
}

// concerns says whether an event on a name may be about our files.
func (d *dirWatch) concerns(name string) bool {
	_, self := d.watched[name]
	return self || d.content[filepath.Dir(name)] || d.wayIn == "" || name == d.wayIn
}

// realPath is the absolute path without links; not ok when there is no such
// thing.
func realPath(path string) (string, bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	r, err := filepath.EvalSymlinks(abs)
	return r, err == nil
}
