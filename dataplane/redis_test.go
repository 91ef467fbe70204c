//go:build redis

package dataplane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared/redistest"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// together reports whether all replicas count together, as they say themselves;
// apart whether none does.
func (r *replicated) together() bool { return r.sharing() == replicas }
func (r *replicated) apart() bool    { return r.sharing() == 0 }

func (r *replicated) sharing() (n int) {
	for _, e := range r.engines {
		x := e.Explain(proxy.Query{Method: "GET", URL: "http://shop.example.com/limited"})
		if strings.Contains(strings.Join(x.Limits, "\n"), "counted by all replicas together") {
			n++
		}
	}
	return n
}

func TestReplicasLetTheRateThroughTogetherAndGoOnWithoutRedis(t *testing.T) {
	redis := redistest.Start(t)
	r := replicate(t, redis.Addr())
	soon(t, "they have found Redis", r.together)
	began := time.Now()
	limited, stop := r.ask("/limited", offered)
	free, stopFree := r.ask("/free", 15)
	limited.wantRate(t, "with Redis", 0.05)
	ended := limited.empty(t)
	if passed, most := float64(limited.passed.Load()), burst+ended.Sub(began).Seconds()*perSecond; passed > most*1.05 {
		t.Errorf("since the first request %.0f went through, and %.0f may", passed, most)
	}

	redis.Kill()
	soon(t, "they miss Redis", r.apart)
	limited.wantRate(t, "after Redis was killed", 0.15)

	redis.Restart()
	soon(t, "they have found Redis again", r.together)
	limited.wantRate(t, "with Redis again", 0.05)

	stop()
	stopFree()
	if l, f := limited.failed.Load(), free.failed.Load(); l+f > 0 {
		t.Errorf("%d limited requests and %d others failed", l, f)
	}
	if free.refused.Load() > 0 || free.passed.Load() < 100 {
		t.Errorf("of the requests without a limit %d were refused, %d answered", free.refused.Load(), free.passed.Load())
	}
}
