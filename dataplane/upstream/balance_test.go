package upstream_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

var balancers = []plan.Balancer{plan.LeastRequest, plan.RoundRobin, plan.PeakEWMA, plan.ConsistentHash, plan.Random, plan.FirstHealthy}

// keyWith is key under a balancer and what else is changed.
func keyWith(b plan.Balancer, change ...func(p *plan.Policy)) plan.PoolKey {
	k := key
	k.Policy.LoadBalancing.Balancer = b
	for _, c := range change {
		c(&k.Policy)
	}
	return k
}

// takeKeyed takes an endpoint for a request with a key of its own.
func takeKeyed(p *upstream.Pool) upstream.Turn {
	return p.Take(upstream.Ask{Now: time.Now(), Key: rand.Uint64(), Keyed: true})
}

// shares are the parts of n requests that the endpoints get, one request at a
// time.
func shares(p *upstream.Pool, n int) map[netip.AddrPort]float64 {
	got := map[netip.AddrPort]float64{}
	for range n {
		turn := takeKeyed(p)
		got[turn.Endpoint.Addr] += 1 / float64(n)
		done(&turn)
	}
	return got
}

func TestBalancersSpreadRequestsEvenlyWhenNothingIsBusy(t *testing.T) {
	const n, picks = 10, 50_000
	for _, b := range []plan.Balancer{plan.LeastRequest, plan.RoundRobin, plan.PeakEWMA, plan.ConsistentHash, plan.Random} {
		p := pool(t, keyWith(b), n)
		got := shares(p, picks)
		// Random: a deviation of 0.0013. A ring's parts deviate by 9% beside.
		tolerance := 6 * 0.0013
		if b == plan.ConsistentHash {
			tolerance = 0.4 * 0.1
		}
		for _, e := range p.Endpoints() {
			if math.Abs(got[e.Addr]-1.0/n) > tolerance {
				t.Errorf("%s: %s gets %.4f", b, e.Addr, got[e.Addr])
			}
		}
	}
}

func TestAnEndpointThatJoinsComesUpToItsShareAsSlowStartSays(t *testing.T) {
	const picks = 40_000
	for _, b := range balancers {
		synctest.Test(t, func(t *testing.T) {
			r := upstream.NewRegistry()
			k := keyWith(b, func(p *plan.Policy) {
				p.LoadBalancing.SlowStart, p.LoadBalancing.SlowStartMinPercent = 100*time.Second, 10
			})
			few, more := pools(k, 4), pools(k, 4)
			few[0].Endpoints = few[0].Endpoints[1:] // the one that joins is the first by address
			r.Prepare(few)
			p := r.Pool(k)
			first := shares(p, picks)
			if b == plan.LeastRequest && math.Abs(first[addr(1)]-1.0/3) > 0.02 {
				t.Errorf("the first members of a pool start slowly: %v", first)
			}
			time.Sleep(time.Hour)
			r.Prepare(more)
			var got []float64
			at := []int{0, 25, 50, 75, 101}
			for i, second := range at {
				if i > 0 {
					time.Sleep(time.Duration(second-at[i-1]) * time.Second)
				}
				got = append(got, shares(p, picks)[addr(0)])
			}
			for i, w := range []float64{0.10, 0.25, 0.50, 0.75, 1} {
				want := w / (3 + w)
				if b == plan.FirstHealthy {
					want = w
				}
				if b == plan.ConsistentHash { // its own part of the ring, whatever that is
					want = w * got[4]
				}
				if math.Abs(got[i]-want) > 0.02+0.05*want {
					t.Errorf("%s: after %d s it gets %.3f, want %.3f", b, at[i], got[i], want)
				}
			}
		})
	}
}

// load keeps requests going for a minute, from clients that each have one at a
// time; took says how long an endpoint takes. It returns how many each got.
func drive(p *upstream.Pool, clients int, took func(netip.AddrPort) time.Duration) map[netip.AddrPort]int {
	var mu sync.Mutex
	got := map[netip.AddrPort]int{}
	var all sync.WaitGroup
	end := time.Now().Add(time.Minute)
	for range clients {
		all.Go(func() {
			for time.Now().Before(end) {
				turn := takeKeyed(p)
				a := turn.Endpoint.Addr
				d := took(a)
				time.Sleep(d)
				turn.Answered(time.Now(), d, 200, 0)
				done(&turn)
				mu.Lock()
				got[a]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return got
}

func TestASlowEndpointGetsLittle(t *testing.T) {
	// Ten endpoints, of which the first takes 50 times as long. Taking turns, it
	// would get a tenth of the requests, and hold nearly all clients.
	for b, most := range map[plan.Balancer]float64{plan.LeastRequest: 0.03, plan.PeakEWMA: 0.01} {
		synctest.Test(t, func(t *testing.T) {
			p := pool(t, keyWith(b), 10)
			got := drive(p, 20, func(a netip.AddrPort) time.Duration {
				if a == addr(0) {
					return 500 * time.Millisecond
				}
				return 10 * time.Millisecond
			})
			all := 0
			for _, n := range got {
				all += n
			}
			share := float64(got[addr(0)]) / float64(all)
			t.Logf("%s: the slow one gets %.4f of %d", b, share, all)
			if share > most || got[addr(0)] == 0 {
				t.Errorf("%s: the slow endpoint gets %.4f, want more than nothing and at most %.4f", b, share, most)
			}
		})
	}
}

func TestPeakEWMAStaysAwayFromAnEndpointThatAsksForIt(t *testing.T) {
	for _, tc := range []struct {
		name       string
		retryAfter time.Duration
		away       time.Duration // it gets nothing for at least this long
	}{
		{"503", 0, 20 * time.Second},
		{"503 with Retry-After", 40 * time.Second, 40 * time.Second},
		{"503 that asks for a year", 365 * 24 * time.Hour, 40 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := pool(t, keyWith(plan.PeakEWMA), 4)
			turn := p.TakeAt(addr(0))
			turn.Answered(time.Now(), time.Millisecond, 503, tc.retryAfter)
			done(&turn)
			one := func() netip.AddrPort {
				turn := take(p)
				a := turn.Endpoint.Addr
				time.Sleep(20 * time.Millisecond)
				turn.Answered(time.Now(), 20*time.Millisecond, 200, 0)
				done(&turn)
				return a
			}
			began := time.Now()
			for one() != addr(0) {
				if time.Since(began) > 3*time.Minute {
					t.Fatalf("%s: it is never asked again", tc.name)
				}
			}
			if away := time.Since(began); away < tc.away {
				t.Errorf("%s: it is asked again after %s", tc.name, away)
			}
		})
	}
}

// owners says which endpoint each of n keys goes to.
func owners(p *upstream.Pool, n int) []netip.AddrPort {
	all := make([]netip.AddrPort, n)
	for i := range all {
		turn := p.Take(upstream.Ask{Now: time.Now(), Key: upstream.Hash(fmt.Append(nil, i)), Keyed: true})
		all[i] = turn.Endpoint.Addr
		done(&turn)
	}
	return all
}

func TestTheHashMovesOnlyWhatItMust(t *testing.T) {
	const n, keys = 10, 20_000
	k := keyWith(plan.ConsistentHash, passive)
	r := upstream.NewRegistry()
	r.Prepare(pools(k, n))
	p := r.Pool(k)
	before := owners(p, keys)
	if slices.Compare(toStrings(before), toStrings(owners(p, keys))) != 0 {
		t.Fatal("the same key goes to different endpoints")
	}

	r.Prepare(pools(k, n+1))
	moved := 0
	for i, a := range owners(p, keys) {
		if a != before[i] {
			moved++
			if a != addr(n) {
				t.Fatalf("key %d went from %s to %s, which is not the new one", i, before[i], a)
			}
		}
	}
	if share := float64(moved) / keys; math.Abs(share-1.0/(n+1)) > 0.04 {
		t.Errorf("%.3f of the keys moved to one endpoint of %d", share, n+1)
	}

	r.Prepare(pools(k, n))
	for i, a := range owners(p, keys) {
		if a != before[i] {
			t.Fatalf("key %d did not come back to %s, but is at %s", i, before[i], a)
		}
	}

	// One that is out leaves its keys to the others, in like parts.
	failTimes(p, addr(3), 5)
	heirs := map[netip.AddrPort]int{}
	for i, a := range owners(p, keys) {
		if a != before[i] && before[i] != addr(3) {
			t.Fatalf("key %d left %s, which did not fail", i, before[i])
		} else if a != before[i] {
			heirs[a]++
		}
	}
	if len(heirs) != n-1 {
		t.Errorf("the keys of one endpoint go to %d others of %d", len(heirs), n-1)
	}
}

func toStrings(all []netip.AddrPort) (s []string) {
	for _, a := range all {
		s = append(s, a.String())
	}
	return s
}

func TestAHotKeyFillsNoEndpointBeyondTheBound(t *testing.T) {
	const n, held = 10, 1000
	p := pool(t, keyWith(plan.ConsistentHash), n)
	ask := upstream.Ask{Now: time.Now(), Key: 42, Keyed: true}
	home := p.Take(ask).Endpoint
	for range held - 1 {
		p.Take(ask)
	}
	most, used := int64(0), 0
	for _, e := range p.Endpoints() {
		most = max(most, e.InFlight())
		if e.InFlight() > 0 {
			used++
		}
	}
	if bound := int64(math.Ceil(1.25 * held / n)); most != bound || home.InFlight() != bound {
		t.Errorf("the fullest has %d, the key's own %d, want %d", most, home.InFlight(), bound)
	}
	if used != int(math.Ceil(held/(1.25*held/n))) {
		t.Errorf("%d endpoints are used", used)
	}
	// A client's few parallel requests stay together.
	p = pool(t, keyWith(plan.ConsistentHash), n)
	home = p.Take(ask).Endpoint
	for range 3 {
		if e := p.Take(ask).Endpoint; e != home {
			t.Error("four requests of a client are too many for one endpoint")
		}
	}
}

func TestWithoutAKeyTheHashIsRandom(t *testing.T) {
	p := pool(t, keyWith(plan.ConsistentHash), 4)
	got := map[netip.AddrPort]int{}
	for range 1000 {
		turn := take(p)
		got[turn.Endpoint.Addr]++
		done(&turn)
	}
	for a, n := range got {
		if n < 150 { // a deviation of 14
			t.Errorf("%s got %d of 1000", a, n)
		}
	}
}

func TestFirstHealthyGoesByAddressWhateverTheOrderOfThePlan(t *testing.T) {
	k := keyWith(plan.FirstHealthy, passive)
	r := upstream.NewRegistry()
	pl := pools(k, 5)
	slices.Reverse(pl[0].Endpoints)
	r.Prepare(pl)
	p := r.Pool(k)
	for i := range 3 {
		if e := take(p).Endpoint; e.Addr != addr(i) {
			t.Fatalf("with %d out it takes %s", i, e.Addr)
		}
		failTimes(p, addr(i), 5)
	}
}

func TestFarEndpointsGetNothingWhileACloseOneIsThere(t *testing.T) {
	k := keyWith(plan.Random, passive, func(p *plan.Policy) { p.LoadBalancing.PreferClose = true })
	r := upstream.NewRegistry()
	pl := pools(k, 4)
	pl[0].Endpoints[2].Far, pl[0].Endpoints[3].Far = true, true
	r.Prepare(pl)
	p := r.Pool(k)
	seen := func() (all []netip.AddrPort) {
		for a := range shares(p, 500) {
			all = append(all, a)
		}
		slices.SortFunc(all, netip.AddrPort.Compare)
		for _, e := range p.Endpoints() {
			if slices.Contains(all, e.Addr) != p.Eligible(e, time.Now()) {
				t.Errorf("%s: eligible is %v", e.Addr, p.Eligible(e, time.Now()))
			}
		}
		return all
	}
	if got := seen(); !slices.Equal(got, []netip.AddrPort{addr(0), addr(1)}) {
		t.Errorf("with two close ones: %v", got)
	}
	failTimes(p, addr(0), 5)
	if got := seen(); !slices.Equal(got, []netip.AddrPort{addr(1)}) {
		t.Errorf("with one close one: %v", got)
	}
	failTimes(p, addr(1), 5)
	if got := seen(); !slices.Equal(got, []netip.AddrPort{addr(2), addr(3)}) {
		t.Errorf("with none it must fail open: %v", got)
	}
	for i := range pl[0].Endpoints {
		pl[0].Endpoints[i].Far = false
	}
	r.Prepare(pl)
	if got := seen(); len(got) != 2 {
		t.Errorf("hints that are gone: %v", got)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, balancer := range balancers {
		for _, ramping := range []bool{false, true} {
			name := balancer.String()
			if ramping {
				name += "/ramping"
			}
			b.Run(name, func(b *testing.B) {
				k := keyWith(balancer, passive, func(p *plan.Policy) {
					p.LoadBalancing.SlowStart, p.LoadBalancing.SlowStartMinPercent = time.Hour, 10
				})
				r := upstream.NewRegistry()
				r.Prepare(pools(k, 990))
				if ramping {
					r.Prepare(pools(k, 1000))
				}
				p := r.Pool(k)
				now := time.Now()
				i := uint64(0)
				b.ReportAllocs()
				for b.Loop() {
					i++
					turn := p.Take(upstream.Ask{Now: now, Key: i * 0x9e3779b97f4a7c15, Keyed: true})
					turn.Release(now, upstream.Success, "")
				}
			})
		}
	}
}

func BenchmarkRingOfAThousand(b *testing.B) {
	k := keyWith(plan.ConsistentHash)
	r := upstream.NewRegistry()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Prepare(pools(k, 1000+i%2))
	}
}

func TestAPickAllocatesNothing(t *testing.T) {
	for _, b := range balancers {
		p := pool(t, keyWith(b, passive), 100)
		now := time.Now()
		if n := testing.AllocsPerRun(1000, func() {
			turn := p.Take(upstream.Ask{Now: now, Key: 7, Keyed: true})
			turn.Answered(now, time.Millisecond, 200, 0)
			turn.Release(now, upstream.Success, "")
		}); n >= 1 {
			t.Errorf("%s: %v allocations", b, n)
		}
	}
}

func TestSlowStartHoldsInAPoolOfTwoUnderLoad(t *testing.T) {
	for _, b := range balancers[:3] {
		synctest.Test(t, func(t *testing.T) {
			r := upstream.NewRegistry()
			k := keyWith(b, func(p *plan.Policy) {
				p.LoadBalancing.SlowStart, p.LoadBalancing.SlowStartMinPercent = time.Hour, 10
			})
			r.Prepare(pools(k, 1))
			r.Prepare(pools(k, 2))
			got := drive(r.Pool(k), 3, func(netip.AddrPort) time.Duration { return 10 * time.Millisecond })
			share := float64(got[addr(1)]) / float64(got[addr(0)]+got[addr(1)])
			t.Logf("%s: %.3f", b, share)
			if share > 0.2 || share < 0.04 {
				t.Errorf("%s: with a tenth of the weight it gets %.3f", b, share)
			}
		})
	}
}

func TestWhatAnotherPoolHasInFlightIsNotCountedAgainstTheHash(t *testing.T) {
	plain, hashed := keyWith(plan.LeastRequest), keyWith(plan.ConsistentHash)
	for _, order := range [][2]plan.PoolKey{{plain, hashed}, {hashed, plain}} {
		r := upstream.NewRegistry()
		r.Prepare(pools(order[0], 10))
		r.Prepare(append(pools(order[0], 10), pools(order[1], 10)...)) // two policies for one Service port
		before := owners(r.Pool(hashed), 1000)
		for range 1000 {
			take(r.Pool(plain)) // WebSockets, say
		}
		moved := 0
		for i, a := range owners(r.Pool(hashed), 1000) {
			if a != before[i] {
				moved++
			}
		}
		if moved > 0 {
			t.Errorf("%d of 1000 keys moved", moved)
		}
	}
}

// While requests waited in vain, what was known of their endpoint decayed as if it
// were idle, so that it looked better and better and drew hundreds.
func TestPeakEWMAStaysAwayFromAnEndpointThatHangs(t *testing.T) {
	p := pool(t, keyWith(plan.PeakEWMA), 10)
	hangs := addr(3)
	stuck, began := 0, time.Now()
	for i := range 12_000 { // a minute at 200 requests a second
		now := began.Add(time.Duration(i) * 5 * time.Millisecond)
		turn := p.Take(upstream.Ask{Now: now})
		if turn.Endpoint.Addr == hangs && i > 1000 {
			stuck++
			continue
		}
		turn.Answered(now.Add(10*time.Millisecond), 10*time.Millisecond, 200, 0)
		turn.Release(now.Add(10*time.Millisecond), upstream.Success, "")
	}
	if stuck == 0 || stuck > 10 {
		t.Errorf("%d requests were sent to an endpoint that answers none", stuck)
	}
}
