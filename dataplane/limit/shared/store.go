package shared

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// Store is token buckets in Redis: a limit.Shared. Make one with New.
//
//	            a probe succeeds
//	+------+ ---------------------> +----+
//	| down |                        | up |
//	+------+ <--------------------- +----+
//	 |    ^        a call fails
//	 +----+
//	a probe fails, each probeEvery
//
// It begins down, with a probe at once.
type Store struct {
	Stats Stats

	server  server
	timeout time.Duration
	log     logr.Logger
	refused *refusals
	up      atomic.Bool
	lost    chan struct{} // gets a value when a call has ended being up
}

// Stats counts what Take has done, since the start.
type Stats struct {
	// Asked are calls that Redis answered, Remembered the refusals that were
	// known without asking, Unknown those that nobody could say anything to.
	Asked, Remembered, Unknown atomic.Uint64
	// Errors are calls that failed, of a probe too.
	Errors atomic.Uint64
}

// server is what holds the buckets.
type server interface {
	// take takes a token of a bucket, which is made when there is none.
	take(ctx context.Context, bucket string, r limit.Rate) (limit.Verdict, error)
	// connect makes the connections that calls are made on.
	connect(ctx context.Context) error
	// renew makes all connections anew.
	renew()
	// bucket returns the name of a bucket.
	bucket(name string, key []byte) string
	close()
}

const (
	// probeEvery is how often a server that is down is looked for.
	probeEvery = time.Second
	// A server that fails soon after it was found is slow under our load, which a
	// probe is not: it is looked for ever less often, until it stays for steady.
	maxPause = 30 * time.Second
	steady   = 10 * time.Second
	// dialTimeout bounds the making of a connection, with all that is said on it
	// before the first call.
	dialTimeout = 2 * time.Second
)

// errBusy: all connections are in use. That says nothing of the server.
var errBusy = errors.New("shared: no connection is free")

// New returns a Store that asks nobody before Run is called.
func New(c Config) *Store { return newStore(newClient(c), c) }

func newStore(s server, c Config) *Store {
	return &Store{server: s, timeout: c.timeout(), log: c.Log, refused: newRefusals(time.Now()), lost: make(chan struct{}, 1)}
}

// Up reports whether Redis is asked at the moment.
func (s *Store) Up() bool { return s.up.Load() }

// Take implements limit.Shared.
func (s *Store) Take(name string, r limit.Rate, key []byte, began, now time.Time) (v limit.Verdict, ok bool) {
	left := s.timeout - now.Sub(began)
	if left <= 0 || !s.up.Load() {
		s.Stats.Unknown.Add(1)
		return v, false
	}
	id := s.refused.id(name, key)
	if v, ok = s.refused.find(id, now); ok {
		s.Stats.Remembered.Add(1)
		return v, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	v, err := s.server.take(ctx, s.server.bucket(name, key), r)
	if err != nil {
		// A call that had little of the time left says nothing when that is up.
		if err != errBusy && (left > s.timeout/2 || !isTimeout(err)) {
			s.fail(err)
		}
		s.Stats.Unknown.Add(1)
		return limit.Verdict{}, false
	}
	s.Stats.Asked.Add(1)
	if !v.OK {
		s.refused.add(id, v, now)
	}
	return v, true
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// fail ends being up.
func (s *Store) fail(err error) {
	s.Stats.Errors.Add(1)
	if s.up.CompareAndSwap(true, false) {
		s.log.Error(err, "rate limits are not shared: Redis failed; each replica lets its part through")
		s.lost <- struct{}{}
	}
}

// Run looks for Redis, at once and whenever it was lost, until ctx ends. After
// that, the Store knows nothing any more.
func (s *Store) Run(ctx context.Context) {
	defer s.server.close()
	defer s.up.Store(false)
	said := false // that it is down
	pause, bucket := probeEvery, []byte(rand.Text())
	for {
		err := s.probe(ctx, bucket)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			s.log.Info("rate limits of all replicas together are counted in Redis")
			s.up.Store(true)
			since := time.Now()
			select {
			case <-s.lost:
			case <-ctx.Done():
				return
			}
			if time.Since(since) < steady {
				pause = min(2*pause, maxPause)
			} else {
				pause = probeEvery
			}
		default:
			s.Stats.Errors.Add(1)
			if !said {
				s.log.Error(err, "rate limits are not shared: Redis cannot be used; each replica lets its part through")
			}
		}
		said = true
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		s.server.renew()
	}
}

// probe does what a request would, with a bucket that is this process's own, on
// connections that may take their time to come.
func (s *Store) probe(ctx context.Context, bucket []byte) error {
	if err := s.server.connect(ctx); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	v, err := s.server.take(call, s.server.bucket("probe", bucket), limit.Rate{Count: 1000, Period: time.Second, Burst: 1000})
	if err == nil && !v.OK {
		err = errors.New("a bucket that nobody else uses is empty")
	}
	return err
}
