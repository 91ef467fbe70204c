package http1

import (
	"sync"
	"sync/atomic"
)

// Buffer size classes in bytes: the first holds the head of nearly every
// message, the last the largest head that DefaultLimits lets through and a good
// piece of a body.
const (
	smallBuffer = 4 << 10
	midBuffer   = 16 << 10
	largeBuffer = 64 << 10
)

// buffer is a pooled byte slice of one of the size classes.
type buffer struct {
	b    []byte
	pool *sync.Pool
}

var (
	smallPool = newBufferPool(smallBuffer)
	midPool   = newBufferPool(midBuffer)
	largePool = newBufferPool(largeBuffer)

	heldBytes atomic.Int64
)

func newBufferPool(size int) *sync.Pool {
	p := new(sync.Pool)
	p.New = func() any { return &buffer{b: make([]byte, size), pool: p} }
	return p
}

// getBuffer returns a buffer of the smallest class that holds n bytes, or of
// the largest class.
func getBuffer(n int) *buffer {
	pool := largePool
	switch {
	case n <= smallBuffer:
		pool = smallPool
	case n <= midBuffer:
		pool = midPool
	}
	b := pool.Get().(*buffer)
	heldBytes.Add(int64(len(b.b)))
	return b
}

// free gives the buffer back. The caller must hold no view into it any more.
func (b *buffer) free() {
	heldBytes.Add(-int64(len(b.b)))
	b.pool.Put(b)
}

// Hold counts n more bytes as held, in a buffer that whoever serves a connection
// has beside it; less when n is negative. It may be called from any goroutine.
func Hold(n int64) { heldBytes.Add(n) }

// HeldBytes returns the number of bytes in buffers that connections hold at
// this moment, with those of Hold. It may be called from any goroutine.
func HeldBytes() int64 { return heldBytes.Load() }
