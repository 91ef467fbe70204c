package upstream_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/internal/memnet"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestAsManyConnectionsAreKeptAsThePolicySays(t *testing.T) {
	for _, most := range []uint32{0, 2} {
		k := key
		k.Policy.Connection.MaxIdlePerEndpoint = most
		e := pool(t, k, 1).Endpoints()[0]
		for range 3 {
			far := kept(e, time.Now())
			defer far.Close()
		}
		if n := e.Idle(); n != int(most) {
			t.Errorf("%d are kept of at most %d", n, most)
		}
	}
}

func TestAConnectionIsKeptUntilTheFirstOfItsLimits(t *testing.T) {
	for _, tc := range []struct {
		name            string
		idle, age, hint time.Duration
		kept            time.Duration // 0: not at all; -1: forever
	}{
		{"no limit", 0, 0, 0, -1},
		{"the policy's idle time", 20 * s, 0, 0, 20 * s},
		{"the endpoint's hint, less a second", 0, 0, 5 * s, 4 * s},
		{"the hint before the idle time", 20 * s, 0, 5 * s, 4 * s},
		{"the idle time before the hint", 20 * s, 0, 60 * s, 20 * s},
		{"a hint that is too short", 20 * s, 0, s, 0},
		{"its age, counted from when it was made", 20 * s, 30 * s, 0, 10 * s},
		{"too old already", 0, 20 * s, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := key
			k.Policy.Connection = plan.Connection{MaxIdlePerEndpoint: 1, IdleTimeout: tc.idle, MaxAge: tc.age}
			p := pool(t, k, 1)
			e := p.Endpoints()[0]
			made := time.Now()
			time.Sleep(20 * s)
			keep := func() {
				near, far := memnet.Pipe(netip.MustParseAddrPort("192.0.2.1:1"), e.Addr)
				_ = far
				e.Keep(http1.NewConn(near, 0), made, time.Now(), tc.hint)
			}
			wantKept := func(want bool) {
				t.Helper()
				c, m := e.IdleConn(time.Now())
				if (c != nil) != want || c != nil && !m.Equal(made) {
					t.Errorf("%s: kept %v, want %v; made %s", tc.name, c != nil, want, m)
				}
			}
			keep()
			switch tc.kept {
			case 0:
				wantKept(false)
			case -1:
				time.Sleep(24 * time.Hour)
				wantKept(true)
			default:
				time.Sleep(tc.kept)
				wantKept(false)
				made = time.Now().Add(-20 * s)
				keep()
				time.Sleep(tc.kept - 1)
				wantKept(true)
			}
		})
	}
}
