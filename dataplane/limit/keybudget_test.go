package limit

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

var slowly = Rate{Count: 1, Period: time.Hour, Burst: 1}

// flood has n keys of k take a token, from a first one on, and returns how many
// were let through.
func flood(k *Keyed, from, n int, now time.Time) (passed int) {
	var key [8]byte
	for i := range n {
		binary.BigEndian.PutUint64(key[:], uint64(from+i))
		if k.Take(key[:], now).OK {
			passed++
		}
	}
	return passed
}

func (k *Keyed) capacity() int { return len(*k.sets.Load()) * ways }

// Each rate limit had 280 KB for its keys, whatever others had: ten thousand of them
// under a flood of keys took 2.8 GB.
func TestTenThousandLimitsUnderAFloodOfKeysStayWithinTheirBudget(t *testing.T) {
	const limits, keys = 10_000, 1 << 18
	b := NewKeyBudget(keys, noon)
	before := heapBytes()
	all := make([]*Keyed, limits)
	for i := range all {
		all[i] = NewKeyed(slowly, 16<<10, b)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 2 {
		for i, k := range all {
			flood(k, r.Int(), 100, noon.Add(time.Duration(round*limits+i)*time.Millisecond))
		}
	}
	// What is left over is less than a limit needs to grow, and is in no use.
	if used := b.Used(); used > keys || used < keys*9/10 {
		t.Errorf("%d of %d keys are taken", used, keys)
	}
	const most = keys*20 + limits*2000 // with what is beside the keys
	if took := heapBytes() - before; took > most {
		t.Errorf("%d bytes are taken, more than %d", took, most)
	}
	runtime.KeepAlive(all)
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestALimitComesToAsManyKeysAsItNeedsUpToItsCapacity(t *testing.T) {
	b := NewKeyBudget(1<<20, noon)
	k := NewKeyed(slowly, 16<<10, b)
	if n := flood(k, 0, 3000, noon); n < 2990 {
		t.Errorf("%d of 3000 keys were let through once", n)
	}
	if n := flood(k, 0, 3000, noon); n > 0 {
		t.Errorf("%d keys were let through twice", n)
	}
	flood(k, 10_000, 100_000, noon)
	if n := k.capacity(); n != 16<<10 || b.Used() != n-leastSets*ways {
		t.Errorf("it has come to %d keys, %d of the budget", n, b.Used())
	}
	one := NewKeyed(slowly, 1, b)
	flood(one, 0, 1000, noon)
	if n := one.capacity(); n != ways {
		t.Errorf("one that is for one key has %d", n)
	}
}

// A flood of one limit's keys must not take the places of another's.
func TestWhoHasManyKeysLeavesSomeToWhoHasFew(t *testing.T) {
	b := NewKeyBudget(4096, noon)
	greedy, modest := NewKeyed(slowly, 16<<10, b), NewKeyed(slowly, 16<<10, b)
	flood(greedy, 0, 100_000, noon)
	if greedy.capacity() != 4096 {
		t.Fatalf("the first one has %d keys", greedy.capacity())
	}
	if n := flood(modest, 0, 200, noon); n < 198 {
		t.Errorf("of another one's 200 keys %d were let through", n)
	}
	now := noon
	for range 20 { // nor is anything won by asking again
		now = now.Add(time.Second)
		flood(greedy, 0, 10_000, now)
		flood(modest, 0, 200, now)
		if g, m := greedy.capacity(), modest.capacity(); g != 1024 || m != 1024 && m != 256 {
			t.Fatalf("they have %d and %d keys", g, m)
		}
	}
}

func TestWhatIsInNoUseGoesToWhoNeedsIt(t *testing.T) {
	b := NewKeyBudget(4096, noon)
	idle, busy := NewKeyed(Rate{Count: 1, Period: time.Minute, Burst: 1}, 16<<10, b), NewKeyed(slowly, 16<<10, b)
	flood(idle, 0, 10_000, noon)
	now := noon.Add(2 * time.Minute) // all its buckets are full
	flood(busy, 0, 10_000, now)
	if i, m := idle.capacity(), busy.capacity(); i != leastSets*ways || m != 4096 {
		t.Errorf("they have %d and %d keys", i, m)
	}
}

func TestALimitThatIsRetiredGivesItsKeysBack(t *testing.T) {
	b := NewKeyBudget(4096, noon)
	k := NewKeyed(slowly, 16<<10, b)
	flood(k, 0, 10_000, noon)
	k.Retire()
	if b.Used() != 0 {
		t.Errorf("%d keys are taken", b.Used())
	}
	if n := flood(k, 0, 10_000, noon); n > 0 || b.Used() != 0 { // by a request that was under way
		t.Errorf("%d were let through, and %d keys are taken", n, b.Used())
	}
}

// A bucket that was pushed out for want of places must not be full because there are
// more of them afterwards, nor because there were fewer in between.
func TestNoBucketIsFullForAChangeOfTheirNumber(t *testing.T) {
	b := NewKeyBudget(0, noon)
	k := NewKeyed(Rate{Count: 1, Period: time.Hour, Burst: 2}, 16<<10, b)
	passed := map[int]int{}
	for _, sets := range []int{leastSets, 128, 2048, leastSets, 32, 2048} {
		b.give(k, sets)
		for range 2 {
			for key := range 3000 {
				passed[key] += flood(k, key, 1, noon)
			}
		}
	}
	for key, n := range passed {
		if n > 2 {
			t.Errorf("key %d was let through %d times", key, n)
		}
	}
}

func TestLimitsShareTheirBudgetUnderConcurrentUse(t *testing.T) {
	b := NewKeyBudget(2048, noon)
	all := [4]*Keyed{}
	for i := range all {
		all[i] = NewKeyed(slowly, 4096, b)
	}
	var mu sync.Mutex
	passed := map[[2]int]int{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 5000 {
				at, key := r.IntN(len(all)), r.IntN(600)
				if flood(all[at], key, 1, noon.Add(time.Duration(i)*time.Millisecond)) > 0 {
					mu.Lock()
					passed[[2]int{at, key}]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for of, n := range passed {
		if n > 1 {
			t.Errorf("key %d of limit %d was let through %d times", of[1], of[0], n)
		}
	}
	sum := 0
	for _, k := range all {
		sum += k.capacity() - leastSets*ways
	}
	if b.Used() != sum || sum > 2048 {
		t.Errorf("%d keys are taken, and %d accounted for", sum, b.Used())
	}
}
