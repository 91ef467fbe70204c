package manifests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

// maxFileBytes bounds what is read of a file: more is a mistake, such as a log
// in the wrong place.
const maxFileBytes = 64 << 20

// Load reads files, and of directories, at any depth, the files called *.yaml,
// *.yml and *.json. Names that begin with a dot are left out: what editors and
// ConfigMap volumes put beside the files.
//
// The snapshot holds what is valid; whether to use it in spite of problems is
// up to the caller. Of objects that occur several times the first is taken, in
// the order of paths, then of the file names in a path.
func Load(paths ...string) (translate.Snapshot, []Problem) {
	files, problems := loadFiles(paths)
	a := assembler{}
	a.addFiles(files)
	return a.snapshot, sorted(append(problems, a.problems...))
}

// loadFiles reads and parses the files of paths. The problems are those of
// finding and reading files.
func loadFiles(paths []string) (files []*file, problems []Problem) {
	seen := make(map[string]bool)
	for _, path := range paths {
		var s scan
		s.add(path)
		problems = append(problems, s.problems...)
		for _, name := range s.files {
			if seen[name] {
				continue
			}
			seen[name] = true
			content, err := readFile(name)
			if err != nil {
				problems = append(problems, Problem{File: name, Message: err.Error()})
				continue
			}
			files = append(files, parseFile(name, content))
		}
	}
	return files, problems
}

// readFile reads a regular file of reasonable size.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("is larger than %d MiB", maxFileBytes>>20)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, cause(err)
	}
	return content, nil
}

// cause is the error without the path, which the problem has already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// scan finds files.
type scan struct {
	files    []string // in order
	dirs     []string // that have been read
	problems []Problem
	visited  map[string]bool // real paths of dirs: links may go in circles
}

// add takes a file, whatever its name, or a directory.
func (s *scan) add(path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		s.problem(path, err)
	case info.IsDir():
		s.dir(path)
		slices.Sort(s.files)
	default:
		s.files = append(s.files, path)
	}
}

func (s *scan) problem(path string, err error) {
	s.problems = append(s.problems, Problem{File: path, Message: cause(err).Error()})
}

// dir reads a directory and what is below it.
func (s *scan) dir(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		s.problem(path, err)
		return
	}
	if s.visited[real] {
		return
	}
	if s.visited == nil {
		s.visited = make(map[string]bool)
	}
	s.visited[real] = true
	s.dirs = append(s.dirs, path)
	entries, err := os.ReadDir(path)
	if err != nil {
		s.problem(path, err)
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := filepath.Join(path, e.Name())
		isDir, manifest := e.IsDir(), slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(name)
			if err != nil {
				if manifest {
					s.problem(name, err)
				}
				continue
			}
			isDir = info.IsDir()
		}
		switch {
		case isDir:
			s.dir(name)
		case manifest:
			s.files = append(s.files, name)
		}
	}
}

// assembler puts the objects of files together.
type assembler struct {
	snapshot translate.Snapshot
	problems []Problem
	where    map[string]Problem // of the objects, by kind and name
	// synthesized Namespaces of the assembly before, to be used again.
	synthesized map[string]*corev1.Namespace
}

// addFiles makes a snapshot of all objects of all files, and of the Namespaces
// that are missing.
func (a *assembler) addFiles(files []*file) {
	a.snapshot, a.problems = translate.Snapshot{AllowLocalEndpoints: true}, nil
	a.where = make(map[string]Problem)
	for _, f := range files {
		a.problems = append(a.problems, f.problems...)
		for _, o := range f.objects {
			a.add(f, o)
		}
	}
	a.synthesize()
}

// add adds an object unless there is one of its kind and name.
func (a *assembler) add(f *file, o object) {
	at := Problem{File: f.name, Line: o.line, Object: o.String()}
	if first, ok := a.where[at.Object]; ok {
		at.Message = fmt.Sprintf("is already in %s:%d", first.File, first.Line)
		a.problems = append(a.problems, at)
		return
	}
	a.where[at.Object] = at
	s := &a.snapshot
	switch v := o.value.(type) {
	case *v1alpha1.ProxyRoute:
		s.Routes = append(s.Routes, v)
	case *v1alpha1.BackendPolicy:
		s.Policies = append(s.Policies, v)
	case *v1alpha1.ProxyClass:
		s.Classes = append(s.Classes, v)
	case *corev1.Service:
		s.Services = append(s.Services, v)
	case *discoveryv1.EndpointSlice:
		s.EndpointSlices = append(s.EndpointSlices, v)
	case *corev1.Namespace:
		s.Namespaces = append(s.Namespaces, v)
	case *gatewayv1.ReferenceGrant:
		s.Grants = append(s.Grants, v)
	}
}

// synthesize adds the Namespaces that objects are in and that were not given.
func (a *assembler) synthesize() {
	known := make(map[string]bool)
	for _, n := range a.snapshot.Namespaces {
		known[n.Name] = true
	}
	before := a.synthesized
	a.synthesized = make(map[string]*corev1.Namespace)
	for _, r := range a.snapshot.Routes {
		if known[r.Namespace] {
			continue
		}
		known[r.Namespace] = true
		n := before[r.Namespace]
		if n == nil {
			n = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}}
			labelNamespace(n)
		}
		a.synthesized[n.Name] = n
		a.snapshot.Namespaces = append(a.snapshot.Namespaces, n)
	}
}
