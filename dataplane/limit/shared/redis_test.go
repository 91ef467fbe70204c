//go:build redis

package shared

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared/redistest"
)

// slow is a rate that gives nothing back in the time of a test.
var slow = limit.Rate{Count: 3, Period: 24 * time.Hour, Burst: 3}

func takeSlow(s *Store) (limit.Verdict, bool) {
	now := time.Now()
	return s.Take("a", slow, nil, now, now)
}

// newTestClient returns a client that a slow machine does not time out.
func newTestClient(t *testing.T, c Config) *client {
	t.Helper()
	cl := newClient(c.patient())
	t.Cleanup(cl.close)
	return cl
}

func (c *client) mustTake(t *testing.T, bucket string, r limit.Rate) limit.Verdict {
	t.Helper()
	v, err := c.take(t.Context(), bucket, r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// near reports whether a time is what is wanted, less what the test has taken.
func near(got, want time.Duration) bool { return got <= want && got > want-time.Minute }

func TestABucketInRedisGivesItsBurstAndSaysWhenThereIsMore(t *testing.T) {
	c := newTestClient(t, Config{Address: redistest.Start(t).Addr()})
	for i, want := range []limit.Verdict{
		{OK: true, Remaining: 2, Reset: 8 * time.Hour},
		{OK: true, Remaining: 1, Reset: 16 * time.Hour},
		{OK: true, Remaining: 0, Reset: 24 * time.Hour},
		{Reset: 24 * time.Hour, RetryAfter: 8 * time.Hour},
		{Reset: 24 * time.Hour, RetryAfter: 8 * time.Hour},
	} {
		got := c.mustTake(t, "b", slow)
		if got.OK != want.OK || got.Remaining != want.Remaining || !near(got.Reset, want.Reset) ||
			!want.OK && !near(got.RetryAfter, want.RetryAfter) || want.OK && got.RetryAfter != 0 {
			t.Errorf("request %d: %+v, want %+v", i, got, want)
		}
	}
	if v := c.mustTake(t, "other", slow); !v.OK || v.Remaining != 2 {
		t.Errorf("another bucket: %+v", v)
	}
	if ttl := c.redis.Load().PTTL(t.Context(), "b").Val(); !near(ttl, 24*time.Hour+2*time.Millisecond) {
		t.Errorf("it expires in %v, and is full in 24 h", ttl)
	}
	if err := c.redis.Load().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if v := c.mustTake(t, "b", slow); v.OK {
		t.Errorf("after the script was lost: %+v", v)
	}
}

// TestTokensComeAtTheirRateByTheClockOfRedis writes what a bucket missed at some
// time before or after now.
func TestTokensComeAtTheirRateByTheClockOfRedis(t *testing.T) {
	c := newTestClient(t, Config{Address: redistest.Start(t).Addr()})
	perHour := limit.Rate{Count: 1, Period: time.Hour, Burst: 10}
	for i, tc := range []struct {
		missing float64
		ago     time.Duration
		rate    limit.Rate
		ok      bool
		remains uint32
		retry   time.Duration
	}{
		{10, 0, perHour, false, 0, time.Hour},
		{10, 30 * time.Minute, perHour, false, 0, 30 * time.Minute},
		{10, 61 * time.Minute, perHour, true, 0, 0},
		{10, 5*time.Hour + time.Minute, perHour, true, 4, 0},
		{10, 1000 * time.Hour, perHour, true, 9, 0},
		{9.5, 0, perHour, false, 0, 30 * time.Minute},
		{10, -time.Hour, perHour, false, 0, time.Hour}, // the clock was set back
		{4, -time.Hour, perHour, true, 5, 0},
		{1e6, 0, limit.Rate{Count: 1, Period: 24 * time.Hour, Burst: 1e6}, false, 0, 24 * time.Hour},
		{1e6 - 1, 0, limit.Rate{Count: 1, Period: 24 * time.Hour, Burst: 1e6}, true, 0, 0},
		{0, 0, limit.Rate{Burst: 2}, true, 1, 0},
	} {
		bucket := fmt.Sprint(i)
		at, err := c.redis.Load().Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		c.redis.Load().Set(t.Context(), bucket, fmt.Sprintf("%g %d", tc.missing, at.Add(-tc.ago).UnixMicro()), 0)
		v := c.mustTake(t, bucket, tc.rate)
		if v.OK != tc.ok || v.Remaining != tc.remains || !tc.ok && !near(v.RetryAfter, tc.retry) {
			t.Errorf("%v missing %v ago at %+v: %+v", tc.missing, tc.ago, tc.rate, v)
		}
	}
	// An empty bucket whose time lay in the future filled only when that had come:
	// a clock that was set back by an hour let nothing through for an hour.
	at, err := c.redis.Load().Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	c.redis.Load().Set(t.Context(), "back", fmt.Sprintf("10 %d", at.Add(time.Hour).UnixMicro()), 0)
	if v := c.mustTake(t, "back", perHour); v.OK {
		t.Errorf("an empty bucket let through %+v", v)
	}
	var missing float64
	var since int64
	if _, err := fmt.Sscan(c.redis.Load().Get(t.Context(), "back").Val(), &missing, &since); err != nil || missing != 10 || since > at.Add(time.Minute).UnixMicro() {
		t.Errorf("after a refusal the bucket misses %v since %v, %v; at %v", missing, since, err, at)
	}
	c.redis.Load().Set(t.Context(), "x", "not ours", 0)
	if v := c.mustTake(t, "x", slow); !v.OK || v.Remaining != 2 {
		t.Errorf("what is no bucket became %+v", v)
	}
}

func TestManyAtOnceFromSeveralProcessesGetTheBurstTogether(t *testing.T) {
	s := redistest.Start(t)
	rate := limit.Rate{Count: 100, Period: 24 * time.Hour, Burst: 100}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		c := newTestClient(t, Config{Address: s.Addr()})
		for range 8 {
			wg.Go(func() {
				for range 20 {
					if v, err := c.take(t.Context(), "b", rate); err != nil {
						t.Error(err)
					} else if v.OK {
						passed.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := passed.Load(); n != 100 {
		t.Errorf("%d went through, want 100", n)
	}
}

func TestKeysHaveThePrefixAndTheLimitAndNothingOfTheRequest(t *testing.T) {
	c := newTestClient(t, Config{Address: redistest.Start(t).Addr(), Prefix: "mine/", Database: 3})
	c.mustTake(t, c.bucket("shop/web/all/0", []byte("s3cret-api-key")), slow)
	c.mustTake(t, c.bucket("shop/web/all/0", []byte("another")), slow)
	c.mustTake(t, c.bucket("shop/web/all/1", []byte("another")), slow)
	keys, err := c.redis.Load().Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 3 {
		t.Fatalf("%q, %v", keys, err)
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "mine/shop/web/all/") || strings.Contains(k, "s3cret") || len(k) > 50 {
			t.Errorf("key %q", k)
		}
	}
	other := newTestClient(t, Config{Address: c.redis.Load().Options().Addr})
	if n := other.redis.Load().DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys in database 0", n)
	}
}

func TestAfterRedisWasKilledNobodyAsksUntilItIsBack(t *testing.T) {
	server := redistest.Start(t)
	s := running(t, Config{Address: server.Addr()}.patient())
	eventually(t, "it is found", s.Up)
	take := func() bool { _, ok := takeSlow(s); return ok }
	if !take() {
		t.Fatal("it does not answer")
	}
	server.Kill()
	eventually(t, "it is missed", func() bool { return !take() })
	if s.Up() {
		t.Error("still up")
	}
	server.Restart()
	eventually(t, "it is back", s.Up)
	if !take() {
		t.Error("it does not answer when it is back")
	}
}

func TestOfARedisThatHangsOneRequestWaitsForItsTimeout(t *testing.T) {
	server := redistest.Start(t)
	c := Config{Address: server.Addr()}.patient()
	c.Timeout = 300 * time.Millisecond
	s := running(t, c)
	eventually(t, "it is found", s.Up)
	server.Hang()
	defer server.Resume()
	for range 1000 {
		if _, ok := takeSlow(s); ok {
			t.Fatal("a Redis that hangs has answered")
		}
	}
	// One of Take, and those of probes.
	if n := s.Stats.Errors.Load(); n < 1 || n > 10 || s.Stats.Unknown.Load() != 1000 {
		t.Errorf("%d calls failed", n)
	}
	server.Resume()
	eventually(t, "it is back", s.Up)
}

func TestWhoMayNotRunTheScriptIsNotUp(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "one", "--user", "reader", "on", ">two", "+@all", "-@scripting", "~*",
		// What docs/operations.md says is enough.
		"--user", "ferrum", "on", ">three", "~ferrum:*", "+@connection", "+eval", "+evalsha", "+time", "+get", "+set")
	as := func(user, password string) Config {
		return Config{Address: server.Addr(), Credentials: func() (string, string, error) { return user, password, nil }}.patient()
	}
	for _, c := range []Config{as("", "one"), as("ferrum", "three")} {
		eventually(t, "it is let in", running(t, c).Up)
	}
	for _, c := range []Config{as("", ""), as("", "wrong"), as("reader", "two")} {
		s := running(t, c)
		eventually(t, "a probe fails", func() bool { return s.Stats.Errors.Load() > 0 })
		if s.Up() {
			t.Error("up without the rights")
		}
	}
}

// BenchmarkTake is what a request with a token of its own pays.
func BenchmarkTake(b *testing.B) {
	c := newClient(Config{Address: redistest.Start(b).Addr()}.patient())
	defer c.close()
	b.ReportAllocs()
	rate := limit.Rate{Count: 1e6, Period: time.Second, Burst: 1e6}
	key := []byte("203.0.113.7")
	for b.Loop() {
		if _, err := c.take(b.Context(), c.bucket("shop/web/all/0:1000000/1s/1000000:ClientIP", key), rate); err != nil {
			b.Fatal(err)
		}
	}
	bytes := c.redis.Load().MemoryUsage(b.Context(), c.bucket("shop/web/all/0:1000000/1s/1000000:ClientIP", key)).Val()
	b.ReportMetric(float64(bytes), "bytes/bucket")
}

// What docs/operations.md says of Redis' memory.
func TestARedisThatIsFullGoesByItsPolicy(t *testing.T) {
	fill := func(s *Store) (unknown int) {
		long := strings.Repeat("a", 2000) // so that some thousand fill it
		for i := range 3000 {
			if now := time.Now(); s.Up() {
				if _, ok := s.Take(long, slow, fmt.Append(nil, i), now, now); !ok {
					unknown++
				}
			}
		}
		return unknown
	}
	for policy, up := range map[string]bool{"volatile-ttl": true, "noeviction": false} {
		server := redistest.Start(t, "--maxmemory", "4mb", "--maxmemory-policy", policy)
		s := running(t, Config{Address: server.Addr()}.patient())
		eventually(t, "it is found", s.Up)
		if unknown := fill(s); s.Up() != up || (unknown == 0) != up {
			t.Errorf("%s: %d calls failed, and it is asked: %t", policy, unknown, s.Up())
		}
	}
}
