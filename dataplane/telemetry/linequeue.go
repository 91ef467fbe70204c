package telemetry

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

const (
	// chunkSize is the size of one write at high rates, the capacity of a pipe
	// on Linux. It is above maxLine, so that a line always fits into a chunk.
	chunkSize = 64 << 10
	// maxWaiting bounds the bytes that wait for the writer. As much again may
	// be in its hands.
	maxWaiting = 4 << 20
	// maxSpare is the number of unused chunks that are kept, 1 MiB of them.
	maxSpare = 16
	// linger is how long the writer waits, once a line has come, for others to
	// write together with it.
	linger = 50 * time.Millisecond
)

// lineQueue hands lines from the requests to one goroutine that writes them:
//
//	asleep --first line--> lingering --50 ms, or a full chunk--> writing
//	   ^                                                            |
//	   +---------- nothing more waits (else lingering again) -------+
//
// It keeps no timer while it is asleep.
type lineQueue struct {
	out io.Writer
	log logr.Logger

	mu      sync.Mutex
	waiting []*chunk // the last one is being filled
	bytes   int      // in waiting
	spare   []*chunk
	closed  bool

	// wake has room for one token. It is sent when the first line comes, when a
	// chunk is full and on close. One that is sent in vain makes the writer
	// look once more than needed, and no more.
	wake chan struct{}
	// done is closed when the writer has ended.
	done chan struct{}

	written, full, failed, late atomic.Uint64 // lines
}

// chunk is what is written at once.
type chunk struct {
	buf   []byte
	lines int
}

func newLineQueue(out io.Writer, log logr.Logger) *lineQueue {
	q := &lineQueue{out: out, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// add copies a line into the queue, or drops and counts it when there is no
// room. It only ever waits for another line being copied.
func (q *lineQueue) add(line []byte) {
	q.mu.Lock()
	lost := q.refusal(len(line))
	if lost != nil {
		q.mu.Unlock()
		lost.Add(1)
		return
	}
	opened := q.append(line)
	q.mu.Unlock()
	// The first chunk was opened by the first line, a further one because the
	// one before is full.
	if opened {
		q.signal()
	}
}

// refusal returns the counter of the reason not to take n more bytes, or nil.
func (q *lineQueue) refusal(n int) *atomic.Uint64 {
	switch {
	case q.closed:
		return &q.late
	case q.bytes+n > maxWaiting:
		return &q.full
	}
	return nil
}

// append copies the line to the last chunk and reports whether it had to open
// one.
func (q *lineQueue) append(line []byte) (opened bool) {
	n := len(q.waiting)
	if n == 0 || len(q.waiting[n-1].buf)+len(line) > chunkSize {
		q.waiting = append(q.waiting, q.chunk())
		n, opened = n+1, true
	}
	c := q.waiting[n-1]
	c.buf = append(c.buf, line...)
	c.lines++
	q.bytes += len(line)
	return opened
}

func (q *lineQueue) chunk() *chunk {
	if n := len(q.spare); n > 0 {
		c := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return c
	}
	return &chunk{buf: make([]byte, 0, chunkSize)}
}

func (q *lineQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes until close.
func (q *lineQueue) run() {
	defer close(q.done)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	var batch []*chunk
	failing := false
	for closed := false; !closed; {
		<-q.wake
		if q.mayLinger() {
			timer.Reset(linger)
			select {
			case <-timer.C:
			case <-q.wake:
			}
		}
		batch, closed = q.take(batch)
		failing = q.write(batch, failing)
	}
}

// mayLinger reports whether what waits is too little to be worth a write now.
func (q *lineQueue) mayLinger() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) <= 1 && !q.closed
}

// take returns all that waits, and whether the queue is closed so that nothing
// more will. It takes the chunks of the batch before back as spare ones, and
// its slice for what comes.
func (q *lineQueue) take(before []*chunk) (batch []*chunk, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, c := range before {
		before[i] = nil
		if len(q.spare) < maxSpare {
			c.buf, c.lines = c.buf[:0], 0
			q.spare = append(q.spare, c)
		}
	}
	batch, q.waiting, q.bytes = q.waiting, before[:0], 0
	return batch, q.closed
}

// write writes the chunks, and reports whether the last write failed. Only the
// first failure in a row is logged.
func (q *lineQueue) write(batch []*chunk, failing bool) bool {
	for _, c := range batch {
		_, err := q.out.Write(c.buf)
		if err != nil {
			q.failed.Add(uint64(c.lines))
			if !failing {
				q.log.Error(err, "writing the access log failed, its lines are lost until it works again")
			}
		} else {
			q.written.Add(uint64(c.lines))
		}
		failing = err != nil
	}
	return failing
}

// close lets the writer write what waits and end, and waits for it until ctx
// ends.
func (q *lineQueue) close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the access log could not be written to its end, its output is stuck: %w", ctx.Err())
	}
}
