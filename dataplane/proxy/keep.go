package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// keepBlock is the unit in which bodies are kept, in bytes.
const keepBlock = 16 << 10

// keep is what was read of a request's body and does not lie behind the head in
// exchange.out, kept to be sent again. Bytes of the process's budget are taken
// with each block, and given back with it: blocks are used again, so what was
// given back is free for others.
//
// While a body is being uploaded the keep belongs to that goroutine, apart from
// the two flags.
type keep struct {
	budget *limit.ByteBudget
	blocks []*block
	on     bool  // what is read is kept
	room   int64 // how many bytes more may be
	// lost: bytes were read that are not kept.
	lost atomic.Bool
	// needless: the response is on its way to the client, so nothing is sent
	// again.
	needless atomic.Bool
}

type block struct {
	b [keepBlock]byte
	n int
}

var blockPool = sync.Pool{New: func() any { return new(block) }}

// prepareKeep decides whether what is read from now on is kept: only if the
// policy may want the request sent again, there is an endpoint for that, and the
// body can be small enough.
func (ex *exchange) prepareKeep() {
	p, k := &ex.rule.retry, &ex.keep
	k.room = p.MaxBodyBytes - ex.reqBody.Payload()
	k.on = ex.policed() && p.On&(plan.RetryReset|plan.RetryCodes) != 0 && ex.spent < int(p.Attempts) &&
		ex.req.ContentLength <= p.MaxBodyBytes && k.room > 0 && !k.lost.Load() && !ex.committed &&
		ex.leg.pool.HasAnother(&ex.tried)
}

// holds reports whether anything is kept.
func (k *keep) holds() bool { return len(k.blocks) > 0 }

// add keeps a piece of the body if that is wanted and can be; else the body is
// lost from here on.
func (k *keep) add(p []byte) {
	if k.on && !k.needless.Load() && k.store(p) {
		return
	}
	k.lose()
}

// lose gives up keeping the body, some of which is gone.
func (k *keep) lose() {
	k.on = false
	k.lost.Store(true)
	k.free()
}

// store copies a piece behind what is kept; false: there is no room.
func (k *keep) store(p []byte) bool {
	if k.room -= int64(len(p)); k.room < 0 {
		return false
	}
	for len(p) > 0 {
		var last *block
		if n := len(k.blocks); n > 0 && k.blocks[n-1].n < keepBlock {
			last = k.blocks[n-1]
		} else {
			if !k.budget.TryReserve(keepBlock) {
				return false
			}
			last = blockPool.Get().(*block)
			last.n = 0
			k.blocks = append(k.blocks, last)
		}
		n := copy(last.b[last.n:], p)
		last.n += n
		p = p[n:]
	}
	return true
}

// resend writes what is kept, and lets go of it if nothing is sent once more.
func (k *keep) resend(to *http1.Conn, now *time.Time) error {
	for _, b := range k.blocks {
		_, err := to.Write(b.b[:b.n], *now)
		*now = time.Now()
		if err != nil {
			return err
		}
	}
	if k.holds() && !k.on {
		k.lose()
	}
	return nil
}

// free gives the memory back.
func (k *keep) free() {
	for i, b := range k.blocks {
		k.blocks[i] = nil
		blockPool.Put(b)
		k.budget.Release(keepBlock)
	}
	k.blocks = k.blocks[:0]
}

// reset forgets the request.
func (k *keep) reset() {
	k.free()
	k.on, k.room = false, 0
	if k.lost.Load() {
		k.lost.Store(false)
	}
	if k.needless.Load() {
		k.needless.Store(false)
	}
}
