package upstream_test

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

func TestARequestIsSentToEachEndpointOnceWhateverTheBalancer(t *testing.T) {
	const n = 8
	for _, b := range balancers {
		p := pool(t, keyWith(b), n)
		for range 500 {
			var tried upstream.Tried
			ask := upstream.Ask{Now: time.Now(), Key: 42, Keyed: true, Tried: &tried}
			for range n {
				if !p.HasAnother(&tried) {
					t.Fatalf("%s: nothing is left", b)
				}
				turn := p.Take(ask)
				if turn.Endpoint == nil || tried.Has(turn.Endpoint) {
					t.Fatalf("%s: %v again", b, turn.Endpoint)
				}
				tried.Add(turn.Endpoint)
				if tried.Last() != turn.Endpoint {
					t.Fatal("it is not the last one")
				}
				done(&turn)
			}
			if turn := p.Take(ask); turn.Endpoint != nil || p.HasAnother(&tried) {
				t.Fatalf("%s: one more after all", b)
			}
			if tried.Clear(); tried.Last() != nil || !p.HasAnother(&tried) {
				t.Fatal("it is not empty")
			}
		}
		if left := p.Endpoints()[0].InFlight(); left != 0 {
			t.Errorf("%s: %d in flight", b, left)
		}
	}
}

func TestTheRetriesOfOneEndpointAreSpreadOverTheOthers(t *testing.T) {
	const n, picks = 5, 20_000
	for _, b := range balancers[:len(balancers)-1] {
		p := pool(t, keyWith(b), n)
		got := map[netip.AddrPort]float64{}
		for i := range uint64(picks) {
			var tried upstream.Tried
			tried.Add(p.Endpoints()[0])
			turn := p.Take(upstream.Ask{Now: time.Now(), Key: i * 0x9e3779b97f4a7c15, Keyed: true, Tried: &tried})
			got[turn.Endpoint.Addr] += 1.0 / picks
			done(&turn)
		}
		tolerance := 0.03
		if b == plan.ConsistentHash {
			tolerance = 0.12 // a ring's parts are not even
		}
		for _, e := range p.Endpoints()[1:] {
			if math.Abs(got[e.Addr]-1.0/(n-1)) > tolerance {
				t.Errorf("%s: %s gets %.3f", b, e.Addr, got[e.Addr])
			}
		}
	}
}

// Retries took turns: with two endpoints of which one failed, the retry took that
// of the good one, so that every request of a quiet client began at the bad one and
// was sent twice.
func TestRetriesTakeNoTurnsOfRoundRobin(t *testing.T) {
	p := pool(t, keyWith(plan.RoundRobin), 2)
	bad, first := p.Endpoints()[0], 0
	for range 100 {
		var tried upstream.Tried
		turn := p.Take(upstream.Ask{Now: time.Now(), Tried: &tried})
		if turn.Endpoint == bad {
			first++
			tried.Add(bad)
			done(&turn)
			turn = p.Take(upstream.Ask{Now: time.Now(), Tried: &tried})
		}
		done(&turn)
	}
	if first != 50 {
		t.Errorf("%d of 100 requests went to the bad one of two endpoints first", first)
	}
}

func TestARetryGoesToTheLessBusyOfTwo(t *testing.T) {
	p := pool(t, keyWith(plan.LeastRequest), 3)
	var held []upstream.Turn
	for range 30 {
		held = append(held, take(p)) // ten each
	}
	free := p.Endpoints()[2]
	held = slices.DeleteFunc(held, func(h upstream.Turn) bool {
		if h.Endpoint == free {
			done(&h)
			return true
		}
		return false
	})
	for range 100 {
		var tried upstream.Tried
		tried.Add(p.Endpoints()[0])
		if turn := p.Take(upstream.Ask{Now: time.Now(), Tried: &tried}); turn.Endpoint != free {
			t.Fatalf("%s was picked, which is busy", turn.Endpoint.Addr)
		} else {
			done(&turn)
		}
	}
	for i := range held {
		done(&held[i])
	}
}

func TestTheSameKeyIsRetriedAtTheSameEndpoint(t *testing.T) {
	p := pool(t, keyWith(plan.ConsistentHash), 6)
	for key := range uint64(100) {
		var order []*upstream.Endpoint
		for round := range 2 {
			var tried upstream.Tried
			for i := range 4 {
				turn := p.Take(upstream.Ask{Now: time.Now(), Key: key, Keyed: true, Tried: &tried})
				tried.Add(turn.Endpoint)
				if round == 0 {
					order = append(order, turn.Endpoint)
				} else if order[i] != turn.Endpoint {
					t.Fatalf("key %d: attempt %d went to %s, then to %s", key, i, order[i].Addr, turn.Endpoint.Addr)
				}
				done(&turn)
			}
		}
	}
}

func TestAFullSetOfTriedEndpointsLeavesNothing(t *testing.T) {
	p := pool(t, keyWith(plan.Random), 200)
	var tried upstream.Tried
	ask, n := upstream.Ask{Now: time.Now(), Tried: &tried}, 0
	for ; p.HasAnother(&tried); n++ {
		turn := p.Take(ask)
		tried.Add(turn.Endpoint)
		done(&turn)
	}
	if n < 21 || n > 100 { // the first one, and what retry.Decide asks for
		t.Errorf("%d endpoints were tried", n)
	}
}

func TestABudgetLivesOnUnderANewPolicyThatLeavesItAsItIs(t *testing.T) {
	budget := plan.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinCount: 10, MinInterval: time.Second}
	withBudget := func(b plan.Balancer, budget plan.RetryBudget) plan.PoolKey {
		return keyWith(b, func(p *plan.Policy) { p.RetryBudget = budget })
	}
	reg := upstream.NewRegistry()
	apply := func(key plan.PoolKey) *upstream.Pool {
		all := pools(key, 2)
		reg.Prepare(all)
		reg.Retire(all)
		return reg.Pool(key)
	}
	before := apply(withBudget(plan.Random, budget))
	after := apply(withBudget(plan.RoundRobin, budget))
	if after.Budget != before.Budget {
		t.Error("another balancer brought another budget")
	}
	budget.Percent++
	if changed := apply(withBudget(plan.RoundRobin, budget)); changed.Budget == before.Budget {
		t.Error("the budget is the old one")
	}
}
