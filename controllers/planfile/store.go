package planfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// fileName of the plan in its directory.
	fileName = "plan"
	// temporary is the pattern of the files that become it.
	temporary = "." + fileName + "-*"
	// interval between two writes: endpoints move all the time.
	interval = 10 * time.Second
	// abandoned is the age from which a temporary file is nobody's any more: no
	// write takes that long.
	abandoned = 10 * time.Minute
	// maxSize is more than any plan that a process could serve.
	maxSize = 1 << 30
)

// Saved is what a file keeps.
type Saved struct {
	Plan plan.Plan
	// Replicas is how many of the proxy were ready; 0 = not known.
	Replicas int
}

// Store keeps the newest plan in a directory.
type Store struct {
	dir     string
	written func(error)

	mu      sync.Mutex
	pending *Saved
	wake    chan struct{}
}

// New returns a Store in a directory, which it makes if need be, and from which
// it removes what processes that were killed in the middle of a write have left.
// written is called after each try to write, with nil or what went wrong.
func New(dir string, written func(error)) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the snapshot: %w", err)
	}
	leavings, _ := filepath.Glob(filepath.Join(dir, temporary)) // an error: only of a bad pattern
	for _, name := range leavings {
		// Another process may be writing there now.
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(name)
		}
	}
	return &Store{dir: dir, written: written, wake: make(chan struct{}, 1)}, nil
}

// Save has Run write a plan soon. It does not block.
func (s *Store) Save(p Saved) {
	s.mu.Lock()
	s.pending = &p
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) take() *Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending
	s.pending = nil
	return p
}

// Run writes what is saved, at most every ten seconds, until ctx ends; then it
// writes the last one. What could not be written is tried again.
func (s *Store) Run(ctx context.Context) {
	for {
		select {
		case <-s.wake:
			s.flush()
		case <-ctx.Done():
			s.flush()
			return
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
		}
	}
}

func (s *Store) flush() {
	p := s.take()
	if p == nil {
		return
	}
	err := s.write(p)
	if err != nil {
		s.giveBack(p)
	}
	s.written(err)
}

// giveBack has a plan that could not be written tried again, unless there is a
// newer one.
func (s *Store) giveBack(p *Saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		return
	}
	s.pending = p
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Load reads the plan that was written last and when that was. The error is
// fs.ErrNotExist when there is none.
func (s *Store) Load() (Saved, time.Time, error) {
	path := filepath.Join(s.dir, fileName)
	info, err := os.Stat(path)
	if err != nil {
		return Saved{}, time.Time{}, err
	}
	if info.Size() > maxSize {
		return Saved{}, time.Time{}, fmt.Errorf("%s: %d bytes are no plan", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Saved{}, time.Time{}, err
	}
	p, err := decode(data)
	if err != nil {
		return Saved{}, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, info.ModTime(), nil
}

// write replaces the file.
func (s *Store) write(p *Saved) error {
	data, err := encode(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, temporary) // for its owner only
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(s.dir, fileName))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(tmp.Name())))
	}
	return syncDir(s.dir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// header is the format of the first line: the fingerprint of the plan's types,
// the length of what follows and its SHA-256. What follows is the plan and behind it
// the number of replicas, which older files do not have.
const header = "ferrum-plan 1 %s %d %s\n"

func encode(p *Saved) ([]byte, error) {
	var body bytes.Buffer
	out := gob.NewEncoder(&body)
	if err := errors.Join(out.Encode(&p.Plan), out.Encode(p.Replicas)); err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	return append(fmt.Appendf(nil, header, fingerprint(), body.Len(), checksum(body.Bytes())), body.Bytes()...), nil
}

func decode(data []byte) (p Saved, err error) {
	line, body, _ := bytes.Cut(data, []byte("\n"))
	var types, sum string
	var length int
	if _, err := fmt.Sscanf(string(line)+"\n", header, &types, &length, &sum); err != nil {
		return p, errors.New("this is no plan of this format")
	}
	switch {
	case types != fingerprint():
		return p, errors.New("another version of the program has written it")
	case length != len(body) || sum != checksum(body):
		return p, errors.New("it is damaged")
	}
	in := gob.NewDecoder(bytes.NewReader(body))
	err = in.Decode(&p.Plan)
	if err == nil {
		if err = in.Decode(&p.Replicas); errors.Is(err, io.EOF) {
			return p, nil // as it was written before the number was in it
		}
	}
	if err != nil {
		return Saved{}, fmt.Errorf("decode the plan: %w", err)
	}
	return p, nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
