package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// sink is an output that remembers its writes and can get stuck or fail.
type sink struct {
	mu     sync.Mutex
	writes []string
	times  []time.Time
	stuck  chan struct{} // when not nil, Write waits for it to be closed
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, string(p))
	s.times = append(s.times, time.Now())
	return len(p), nil
}

func (s *sink) all() string { return strings.Join(s.written(), "") }

// written returns the writes so far.
func (s *sink) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// last returns when the last write was; the zero time before the first.
func (s *sink) last() (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.times); n > 0 {
		at = s.times[n-1]
	}
	return at
}

func (s *sink) set(stuck chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck, s.err = stuck, err
}

// inBubble runs f with a queue to out, which is closed at the end.
func inBubble(t *testing.T, out *sink, f func(q *lineQueue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := newLineQueue(out, logr.Discard())
		f(q)
		if err := q.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestALoneLineIsWrittenWithin100Milliseconds(t *testing.T) {
	out := &sink{}
	inBubble(t, out, func(q *lineQueue) {
		for range 3 {
			begin := time.Now()
			q.add([]byte("line\n"))
			time.Sleep(100 * time.Millisecond) // fake time: the bubble's clock
			if out.last().Before(begin) {
				t.Fatal("not written yet")
			}
			time.Sleep(time.Hour)
		}
	})
	if got := len(out.written()); got != 3 {
		t.Errorf("%d writes, want 3", got)
	}
}

func TestLinesThatComeTogetherAreWrittenTogether(t *testing.T) {
	out := &sink{}
	var want strings.Builder
	inBubble(t, out, func(q *lineQueue) {
		for i := range 100 {
			ln := fmt.Sprintf("line %d\n", i)
			want.WriteString(ln)
			q.add([]byte(ln))
			time.Sleep(100 * time.Microsecond)
		}
	})
	if got := len(out.written()); got != 1 {
		t.Errorf("%d writes, want 1", got)
	}
	if out.all() != want.String() {
		t.Errorf("written: %q", out.all())
	}
}

func TestAFullChunkIsWrittenAtOnce(t *testing.T) {
	out := &sink{}
	ln := append(bytes.Repeat([]byte("x"), 1023), '\n')
	inBubble(t, out, func(q *lineQueue) {
		for range chunkSize / len(ln) {
			q.add(ln)
		}
		synctest.Wait()
		if len(out.written()) != 0 {
			t.Error("written before the chunk was full")
		}
		q.add(ln)
		synctest.Wait() // no time passes
		if w := out.written(); len(w) != 2 || len(w[0]) != chunkSize {
			t.Errorf("%d writes, want the full chunk and the line after it", len(w))
		}
	})
}

func TestAStuckOutputLosesLinesAndCountsThemAndHoldsNobodyUp(t *testing.T) {
	out := &sink{}
	ln := append(bytes.Repeat([]byte("x"), 1023), '\n')
	const lines = 3 * maxWaiting / 1024
	inBubble(t, out, func(q *lineQueue) {
		stuck := make(chan struct{})
		out.set(stuck, nil)
		q.add(ln)
		time.Sleep(time.Second) // now the writer is stuck with this line
		begin := time.Now()
		for range lines {
			q.add(ln)
		}
		if waited := time.Since(begin); waited > 0 {
			t.Errorf("adding took %v", waited)
		}
		const room = maxWaiting / 1024
		if lost := q.full.Load(); lost != lines-room {
			t.Errorf("%d lines counted as lost, want %d", lost, lines-room)
		}
		out.set(nil, nil)
		close(stuck)
		time.Sleep(time.Second)
		if n := q.written.Load(); n != room+1 || len(out.all()) != (room+1)*1024 {
			t.Errorf("%d lines counted and %d bytes seen as written, want the %d there was room for", n, len(out.all()), room+1)
		}
		q.add([]byte("after\n"))
		time.Sleep(time.Second)
		if !strings.HasSuffix(out.all(), "\nafter\n") {
			t.Error("after the output came back, a line was not written")
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.spare) > maxSpare {
			t.Errorf("%d spare chunks are kept, want at most %d", len(q.spare), maxSpare)
		}
	})
}

func TestChunksAreUsedAgainWithoutMixingLines(t *testing.T) {
	out := &sink{}
	var want strings.Builder
	lines := 0
	inBubble(t, out, func(q *lineQueue) {
		// Rounds of so many chunks, up and down so that old ones would show.
		for round, chunks := range []int{1, 5, 1, 2, 20, 1, 1, 3, 6, 1} {
			for i := range chunks * chunkSize / 1000 {
				ln := fmt.Sprintf("%d %d %s\n", round, i, strings.Repeat("x", 980))
				want.WriteString(ln)
				lines++
				q.add([]byte(ln))
			}
			time.Sleep(time.Second)
			if n := q.written.Load(); n != uint64(lines) {
				t.Errorf("round %d: %d lines counted, want %d", round, n, lines)
			}
		}
	})
	if out.all() != want.String() {
		t.Error("what was written is not what was logged")
	}
}

func TestAFailingOutputLosesItsLinesAndIsTriedAgain(t *testing.T) {
	out := &sink{err: errors.New("no space")}
	inBubble(t, out, func(q *lineQueue) {
		q.add([]byte("lost\n"))
		q.add([]byte("lost, too\n"))
		time.Sleep(time.Second)
		out.set(nil, nil)
		q.add([]byte("written\n"))
		time.Sleep(time.Second)
		if failed, written := q.failed.Load(), q.written.Load(); failed != 2 || written != 1 {
			t.Errorf("%d lines failed and %d written, want 2 and 1", failed, written)
		}
	})
	if out.all() != "written\n" {
		t.Errorf("written: %q", out.all())
	}
}

func TestCloseWritesWhatWaitsAtOnceAndLaterLinesAreCountedAsLost(t *testing.T) {
	out := &sink{}
	synctest.Test(t, func(t *testing.T) {
		q := newLineQueue(out, logr.Discard())
		begin := time.Now()
		for range 3 {
			q.add([]byte("line\n"))
		}
		if err := q.close(t.Context()); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begin); waited > 0 {
			t.Errorf("close took %v", waited)
		}
		q.add([]byte("late\n"))
		if late := q.late.Load(); late != 1 {
			t.Errorf("%d lines counted as late, want 1", late)
		}
		if err := q.close(t.Context()); err != nil {
			t.Errorf("closing again: %v", err)
		}
	})
	if want := strings.Repeat("line\n", 3); out.all() != want {
		t.Errorf("written: %q", out.all())
	}
}

func TestCloseGivesUpOnAStuckOutputWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		q := newLineQueue(&sink{stuck: stuck}, logr.Discard())
		q.add([]byte("line\n"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		if err := q.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if waited := time.Since(begin); waited != 2*time.Second {
			t.Errorf("close gave up after %v, want 2s", waited)
		}
		close(stuck) // lets the writer end, which the bubble waits for
	})
}

func TestLinesOfManyGoroutinesAreAllWrittenWhole(t *testing.T) {
	out := &sink{}
	q := newLineQueue(out, logr.Discard())
	const goroutines, each = 8, 2000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				q.add(fmt.Appendf(nil, "%d %d %s\n", g, i, strings.Repeat("x", i%50)))
			}
		})
	}
	wg.Wait()
	if err := q.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var next [goroutines]int
	for ln := range strings.Lines(out.all()) {
		var g, i int
		var pad string
		if n, _ := fmt.Sscanf(ln, "%d %d %s\n", &g, &i, &pad); n < 2 || len(pad) != i%50 || i != next[g] {
			t.Fatalf("line %q, want number %d of goroutine %d", ln, next[g], g)
		}
		next[g]++
	}
	for g, n := range next {
		if n != each {
			t.Errorf("goroutine %d: %d lines, want %d", g, n, each)
		}
	}
}
