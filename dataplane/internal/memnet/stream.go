package memnet

import (
	"os"
	"sync"
	"time"
)

// stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex
	changed  *sync.Cond
	data     []byte
	readErr  error // what readers get when data is empty; nil: they wait
	writeErr error // what writers get; nil: they write or wait
	readers  deadline
	writers  deadline
}

// deadline of the readers or of the writers of a stream.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func newStream() *stream {
	s := &stream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readers.passed:
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			s.data = s.data[:copy(s.data, s.data[n:])]
			s.changed.Broadcast()
			return n, nil
		case s.readErr != nil:
			return 0, s.readErr
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return n, s.writeErr
		case s.writers.passed:
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		if room := min(BufferSize-len(s.data), len(p)-n); room > 0 {
			s.data = append(s.data, p[n:n+room]...)
			n += room
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// end lets readers drain what is on its way and then gives them readErr;
// writers get writeErr at once, or are refused as after CloseWrite when it is
// nil.
func (s *stream) end(readErr, writeErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == nil {
		s.readErr = readErr
	}
	if writeErr == nil {
		writeErr = reset("write")
	}
	s.writeErr = writeErr
	s.changed.Broadcast()
}

// kill drops what is on its way.
func (s *stream) kill(readErr, writeErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = s.data[:0]
	s.readErr = readErr
	if s.writeErr == nil {
		s.writeErr = writeErr
	}
	s.readers.stop()
	s.writers.stop()
	s.changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		s.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer {
			d.passed = true
			s.changed.Broadcast()
		}
	})
	d.timer = timer
}
