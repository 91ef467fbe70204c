package shared

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// script is a server that does as it is told. Its fields are for what runs in
// locked.
type script struct {
	mu       sync.Mutex
	refuse   limit.Verdict // what take says, unless it is zero
	err      error
	hangs    bool          // until the caller gives up
	after    time.Duration // that it takes to answer
	connects int
	takes    int // without those of probes
	closed   bool
	said     []string // the log of the Store
}

func (s *script) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *script) answer(ctx context.Context, count func()) (err error) {
	after := time.Duration(0)
	s.locked(func() {
		count()
		if after, err = s.after, s.err; s.hangs {
			after = time.Hour
		}
	})
	if after > 0 {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (s *script) connect(ctx context.Context) error { return s.answer(ctx, func() { s.connects++ }) }
func (s *script) renew()                            {}
func (s *script) close()                            { s.locked(func() { s.closed = true }) }

func (s *script) bucket(name string, key []byte) string { return name + ":" + string(key) }

func (s *script) take(ctx context.Context, bucket string, _ limit.Rate) (limit.Verdict, error) {
	v := limit.Verdict{OK: true, Remaining: 7}
	err := s.answer(ctx, func() {
		if strings.HasPrefix(bucket, "probe:") {
			return
		}
		s.takes++
		if s.refuse.RetryAfter > 0 {
			v = s.refuse
		}
	})
	return v, err
}

// A Redis that is slow only under the load of all was found by each probe and lost
// at once, every second, for ever.
func TestARedisThatIsLostSoonIsLookedForEverLessOften(t *testing.T) {
	r := &script{}
	inBubble(t, r, func(t *testing.T, s *Store) {
		for _, pause := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, maxPause, maxPause} {
			s.fail(errors.New("slow"))
			time.Sleep(pause - time.Millisecond)
			synctest.Wait()
			if s.Up() {
				t.Fatalf("it is asked again before %v", pause)
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if !s.Up() {
				t.Fatalf("it is not asked again after %v", pause)
			}
		}
		time.Sleep(steady)
		s.fail(errors.New("gone"))
		time.Sleep(probeEvery)
		synctest.Wait()
		if !s.Up() {
			t.Error("after a good time it is not looked for at once")
		}
	})
}

// A wait for a connection, of which there were too few, counted as a failure of
// Redis.
func TestThatNoConnectionIsFreeSaysNothingOfRedis(t *testing.T) {
	r := &script{}
	inBubble(t, r, func(t *testing.T, s *Store) {
		r.locked(func() { r.err = errBusy })
		if _, ok := ask(s, ""); ok || !s.Up() {
			t.Errorf("answered: %v, still asked: %v", ok, s.Up())
		}
	})
}

// Several limits of one request waited for the whole timeout each.
func TestTheLimitsOfARequestWaitTogetherNoLongerThanOne(t *testing.T) {
	r := &script{}
	inBubble(t, r, func(t *testing.T, s *Store) {
		request := func(want string) {
			t.Helper()
			got, began := "", time.Now()
			for range 4 {
				_, ok := s.Take("a", limit.Rate{}, nil, began, time.Now())
				got += fmt.Sprint(ok, " ", time.Since(began), " ")
			}
			if got += fmt.Sprint(s.Up()); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		r.locked(func() { r.after = 30 * time.Millisecond })
		request("true 30ms false 50ms false 50ms false 50ms true") // too slow for two, which says nothing against it
		r.locked(func() { r.after = 20 * time.Millisecond })
		request("true 20ms true 40ms false 50ms false 50ms true")
		r.locked(func() { r.hangs = true })
		request("false 50ms false 50ms false 50ms false 50ms false")
		r.locked(func() { r.hangs, r.after = false, 0 })
		time.Sleep(4 * time.Second)
		r.locked(func() { r.after = 20 * time.Millisecond })
		began := time.Now()
		if _, ok := s.Take("a", limit.Rate{}, nil, began, time.Now()); !ok {
			t.Fatal("it is not back")
		}
		r.locked(func() { r.hangs = true })
		if _, ok := s.Take("a", limit.Rate{}, nil, began, time.Now()); ok || s.Up() || time.Since(began) != DefaultTimeout {
			t.Errorf("answered %t after %v, and is asked: %t", ok, time.Since(began), s.Up())
		}
		r.locked(func() { r.hangs = false })
	})
}

// inBubble runs a Store over a script in a synctest bubble.
func inBubble(t *testing.T, r *script, f func(t *testing.T, s *Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(r, Config{Log: funcr.New(func(_, args string) { r.locked(func() { r.said = append(r.said, args) }) }, funcr.Options{})})
		if _, ok := ask(s, ""); ok || s.Up() {
			t.Error("it answers before it runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		synctest.Wait()
		f(t, s)
		cancel()
		<-done
		if s.Up() || !r.closed {
			t.Error("it is still up after its end")
		}
	})
}

func ask(s *Store, key string) (limit.Verdict, bool) {
	now := time.Now()
	return s.Take("a", limit.Rate{}, []byte(key), now, now)
}

func TestItIsUpWhenAProbeHasSucceededAndSaysEachChangeOnce(t *testing.T) {
	r := &script{err: errors.New("refused")}
	inBubble(t, r, func(t *testing.T, s *Store) {
		want := func(when string, connects, takes, said int) {
			t.Helper()
			synctest.Wait()
			r.locked(func() {
				if r.connects != connects || r.takes != takes || len(r.said) != said {
					t.Errorf("%s: %d connects, %d takes, log %q; want %d, %d, %d", when, r.connects, r.takes, r.said, connects, takes, said)
				}
			})
		}
		time.Sleep(time.Minute - 1)
		want("a minute without a server", 60, 0, 1)
		r.locked(func() { r.err = nil })
		time.Sleep(probeEvery)
		synctest.Wait()
		if v, ok := ask(s, "x"); !ok || !v.OK || v.Remaining != 7 || !s.Up() {
			t.Errorf("with a server: %+v, %v", v, ok)
		}
		want("with a server", 61, 1, 2)
		time.Sleep(time.Hour)
		r.locked(func() { r.err = errors.New("gone") })
		for range 100 {
			if _, ok := ask(s, "x"); ok {
				t.Error("an answer without a server")
			}
		}
		want("when it was lost", 61, 2, 3)
		time.Sleep(time.Minute)
		want("a minute later", 61+60, 2, 3)
		r.locked(func() { r.err = nil })
		time.Sleep(probeEvery)
		synctest.Wait()
		if _, ok := ask(s, "x"); !ok {
			t.Error("no answer when it is back")
		}
		want("when it is back", 61+61, 3, 4)
		if asked, unknown := s.Stats.Asked.Load(), s.Stats.Unknown.Load(); asked != 2 || unknown != 101 {
			t.Errorf("%d were answered, and %d not", asked, unknown)
		}
	})
}

func TestAServerThatHangsCostsItsTimeoutOnce(t *testing.T) {
	r := &script{}
	inBubble(t, r, func(t *testing.T, s *Store) {
		r.locked(func() { r.hangs = true })
		slow := 0
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Millisecond) {
			from := time.Now()
			ask(s, "x")
			if d := time.Since(from); d > DefaultTimeout {
				t.Fatalf("a request waited %v", d)
			} else if d > 0 {
				slow++
			}
		}
		if slow != 1 {
			t.Errorf("%d requests waited for a server that hangs for a minute", slow)
		}
	})
}

func TestARefusalIsRememberedUntilThereIsATokenAndASecondAtMost(t *testing.T) {
	for _, c := range []struct{ retry, until time.Duration }{
		{300 * time.Millisecond, 300 * time.Millisecond}, {time.Hour, time.Second},
	} {
		refuse := limit.Verdict{Reset: 2 * time.Hour, RetryAfter: c.retry}
		r := &script{refuse: refuse}
		inBubble(t, r, func(t *testing.T, s *Store) {
			wantTakes := func(n int, when string) {
				t.Helper()
				r.locked(func() {
					if r.takes != n {
						t.Errorf("%s: asked %d times, want %d", when, r.takes, n)
					}
				})
			}
			if v, ok := ask(s, "x"); !ok || v != refuse {
				t.Errorf("%+v, %v", v, ok)
			}
			step := 100 * time.Millisecond
			time.Sleep(step)
			if v, ok := ask(s, "x"); !ok || v != (limit.Verdict{Reset: 2*time.Hour - step, RetryAfter: c.retry - step}) {
				t.Errorf("after %v: %+v, %v", step, v, ok)
			}
			time.Sleep(c.until - step - 1)
			ask(s, "x")
			wantTakes(1, "before the time")
			ask(s, "y")
			wantTakes(2, "with another key")
			time.Sleep(time.Nanosecond)
			ask(s, "x")
			wantTakes(3, "at the time")
			if n := s.Stats.Remembered.Load(); n != 2 {
				t.Errorf("%d were remembered", n)
			}
			r.locked(func() { r.err = errors.New("gone") })
			ask(s, "z")
			if _, ok := ask(s, "x"); ok {
				t.Error("what is remembered counts although the server is lost")
			}
		})
	}
}

func TestMoreRefusalsThanThereIsRoomForPushOutThoseThatEndFirst(t *testing.T) {
	now := time.Now()
	r := newRefusals(now)
	const set = 5
	for i := range uint64(ways + 3) {
		r.add(set+i*refusalSets, limit.Verdict{RetryAfter: time.Duration(i+1) * time.Millisecond}, now)
	}
	kept := ""
	for i := range uint64(ways + 3) {
		if _, ok := r.find(set+i*refusalSets, now); ok {
			kept += fmt.Sprint(i, " ")
		}
	}
	if kept != "3 4 5 6 7 8 9 10 " {
		t.Errorf("kept %s", kept)
	}
}

func TestARefusalThatIsRememberedAllocatesNothing(t *testing.T) {
	s := newStore(&script{}, Config{})
	s.up.Store(true)
	now, key := time.Now(), []byte("203.0.113.7")
	s.refused.add(s.refused.id("a", key), limit.Verdict{RetryAfter: time.Second}, now)
	if n := testing.AllocsPerRun(1000, func() { s.Take("a", limit.Rate{}, key, now, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s.Stats.Remembered.Load() < 1000 {
		t.Error("it was not remembered")
	}
}

func TestVerdictsAreExactToTheToken(t *testing.T) {
	third := costOf(limit.Rate{Count: 3, Period: time.Second})
	for _, c := range []struct {
		ok         bool
		millionths int64
		cost       float64
		burst      uint32
		want       limit.Verdict
	}{
		{true, 1_000_000, 1000, 3, limit.Verdict{OK: true, Remaining: 2, Reset: time.Millisecond}},
		{true, 3_000_000, 1000, 3, limit.Verdict{OK: true, Reset: 3 * time.Millisecond}},
		{true, 2_000_001, 1000, 3, limit.Verdict{OK: true, Remaining: 1, Reset: 2*time.Millisecond + 2}}, // rounded up by the script
		{true, 1_500_000, 1000, 3, limit.Verdict{OK: true, Remaining: 1, Reset: 1500 * time.Microsecond}},
		{false, 2_500_000, 1000, 3, limit.Verdict{Reset: 2500 * time.Microsecond, RetryAfter: 500 * time.Microsecond}},
		{false, 2_000_000, 1000, 3, limit.Verdict{Reset: 2 * time.Millisecond, RetryAfter: 1}},
		{true, 1_000_000, third, 1, limit.Verdict{OK: true, Reset: 333333334}},
		{false, 1_000_000, forever, 1, limit.Verdict{Reset: 1e18, RetryAfter: 1e18}},
		{false, 1e12, forever, 1e6, limit.Verdict{Reset: 1 << 60, RetryAfter: 1e18}},
	} {
		if got := verdict(c.ok, c.millionths, c.cost, c.burst); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	for _, r := range []limit.Rate{{}, {Count: 1}, {Period: 1}} {
		if got := costOf(r); got != forever {
			t.Errorf("%+v: %v", r, got)
		}
	}
}
