package telemetry

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// maxShards bounds the shards of a rule. Beyond it several cores share one.
const maxShards = 16

// classCount is the number of status classes: classNone and 1xx to 5xx.
const classCount = 6

// classNames are the values of the label code_class, by status / 100.
var classNames = [classCount]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// reasonCount is the number of rows of the reason table, whyCount that of the
// words of retries.
var reasonCount, whyCount = len(proxy.Reasons()), len(retry.Whys())

// ruleSeries are the counters of one rule. They work the same whether or not
// the rule is still exported.
type ruleSeries struct {
	id proxy.RuleID
	// round is the last call of ruleSet.retain that named the rule; guarded by
	// the ruleSet.
	round uint64

	cores *cores
	// shards are made when a core first needs one, so that a rule without
	// traffic costs a pointer a shard.
	shards []atomic.Pointer[shard]
	// failures is indexed by proxy.Reason, and made at the first failure. It is
	// not sharded: failures are rare, or something else is the bottleneck.
	failures atomic.Pointer[[]atomic.Uint64]
	// retries is the same, indexed by retry.Why.
	retries atomic.Pointer[[]atomic.Uint64]
	// wouldLimit counts requests that a rate limit in dry run would have refused.
	wouldLimit atomic.Uint64
}

// shard is the part of a rule's counters that is written by few cores, at best
// by one. Each counter only grows.
type shard struct {
	started atomic.Uint64
	// classes count the ended requests by the class of their status. Requests
	// in flight are those started less the sum of these.
	classes  [classCount]atomic.Uint64
	duration histogram
	header   histogram
	attempts atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64

	// To the next multiple of a cache line, which the allocator then aligns to,
	// so that neighbors in memory do not slow each other down.
	_ [32]byte
}

// newRuleSeries returns series at zero.
func newRuleSeries(id proxy.RuleID, c *cores) *ruleSeries {
	return &ruleSeries{
		id:     id,
		cores:  c,
		shards: make([]atomic.Pointer[shard], c.shards),
	}
}

// Begin counts a request as in flight.
func (s *ruleSeries) Begin() {
	c := s.cores.enter()
	s.shard(c).started.Add(1)
	s.cores.leave(c)
}

// End counts a request as ended.
func (s *ruleSeries) End(r *proxy.Record) {
	c := s.cores.enter()
	sh := s.shard(c)
	sh.classes[class(r.Status)].Add(1)
	sh.duration.observe(r.Duration)
	if r.UpstreamHeader > 0 {
		sh.header.observe(r.UpstreamHeader)
	}
	addPositive(&sh.attempts, int64(r.Attempts))
	addPositive(&sh.bytesIn, r.BytesIn)
	addPositive(&sh.bytesOut, r.BytesOut)
	s.cores.leave(c)
	if r.WouldLimit {
		s.wouldLimit.Add(1)
	}
	if r.Reason != proxy.ReasonOK {
		count(&s.failures, reasonCount, int(r.Reason))
	}
}

// Retry counts the decision after an attempt that failed.
func (s *ruleSeries) Retry(why retry.Why) { count(&s.retries, whyCount, int(why)) }

// count adds one to a counter of rare events, of which there are size.
func count(counters *atomic.Pointer[[]atomic.Uint64], size, at int) {
	c := counters.Load()
	if c == nil {
		made := make([]atomic.Uint64, size)
		if counters.CompareAndSwap(nil, &made) {
			c = &made
		} else {
			c = counters.Load()
		}
	}
	(*c)[at].Add(1)
}

// shard returns the shard that belongs to c.
func (s *ruleSeries) shard(c *core) *shard {
	p := &s.shards[c.shard]
	if sh := p.Load(); sh != nil {
		return sh
	}
	p.CompareAndSwap(nil, new(shard))
	return p.Load()
}

// class returns the index of the status in classNames.
func class(status int) int {
	if c := status / 100; c > 0 && c < classCount {
		return c
	}
	return 0
}

// addPositive spares the common zero the cost of an atomic operation.
func addPositive(c *atomic.Uint64, n int64) {
	if n > 0 {
		c.Add(uint64(n))
	}
}

// cores hands every goroutine the number of a shard that other cores are
// unlikely to write at the same time. sync.Pool keeps a list per core and gives
// back what was put there last, so a core keeps its shard from request to
// request; that is all it is used for here.
type cores struct {
	shards int
	pool   sync.Pool
	made   atomic.Uint32
}

// core stands for a core of the machine while a goroutine holds it.
type core struct{ shard uint32 }

func newCores() *cores {
	c := &cores{shards: min(runtime.GOMAXPROCS(0), maxShards)}
	c.pool.New = func() any {
		return &core{shard: (c.made.Add(1) - 1) % uint32(c.shards)}
	}
	return c
}

func (c *cores) enter() *core { return c.pool.Get().(*core) }

func (c *cores) leave(x *core) { c.pool.Put(x) }
