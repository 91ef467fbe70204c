package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
)

func TestNoMoreThanTheLimitAreInFlight(t *testing.T) {
	var f InFlight
	var most, refused atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if !f.Acquire(3) {
					refused.Add(1)
					continue
				}
				if n := f.Load(); n > 3 {
					most.Store(n)
				}
				f.Release()
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 0 || f.Load() != 0 {
		t.Errorf("%d were in flight, and %d are at the end", n, f.Load())
	}
}

func TestALimitMayChangeOverWhatIsInFlight(t *testing.T) {
	var f InFlight
	for i, c := range []struct {
		limit uint32
		want  bool
	}{{2, true}, {2, true}, {2, false}, {3, true}, {1, false}, {0, true}, {4, false}, {5, true}} {
		if got := f.Acquire(c.limit); got != c.want {
			t.Errorf("%d, with a limit of %d: %t", i, c.limit, got)
		}
	}
}

func TestBytesAreNeverReservedBeyondTheBudget(t *testing.T) {
	b := NewByteBudget(1000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			n := int64(w*50 + 1)
			for range 3000 {
				if b.TryReserve(n) {
					b.Release(n)
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || b.High() > 1000 || b.High() < 351 {
		t.Errorf("%d used, %d at most", b.Used(), b.High())
	}
}

func TestAByteBudgetKnowsItsHighWater(t *testing.T) {
	b := NewByteBudget(100)
	for _, c := range []struct {
		n    int64
		want bool
	}{{60, true}, {41, false}, {40, true}, {1, false}, {0, true}, {-1, false}, {math.MaxInt64, false}} {
		if got := b.TryReserve(c.n); got != c.want {
			t.Errorf("%d bytes: %t", c.n, got)
		}
	}
	b.Release(70)
	if b.Used() != 30 || b.High() != 100 || b.Limit() != 100 {
		t.Errorf("%d used of %d, %d at most", b.Used(), b.Limit(), b.High())
	}
	defer func() {
		if recover() == nil {
			t.Error("more was released than was reserved, and nobody noticed")
		}
	}()
	b.Release(31)
}

func TestCountingAllocatesNothing(t *testing.T) {
	var f InFlight
	b := NewByteBudget(1 << 20)
	if n := testing.AllocsPerRun(100, func() {
		f.Acquire(10)
		b.TryReserve(100)
		b.Release(100)
		f.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInFlight(b *testing.B) {
	var f InFlight
	b.ReportAllocs()
	for b.Loop() {
		f.Acquire(10)
		f.Release()
	}
}

func BenchmarkByteBudget(b *testing.B) {
	budget := NewByteBudget(1 << 20)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if budget.TryReserve(4096) {
				budget.Release(4096)
			}
		}
	})
}

func TestAByteBudgetThatShrinksGivesNothingUntilEnoughIsBack(t *testing.T) {
	b := NewByteBudget(100)
	b.TryReserve(80)
	b.SetLimit(50)
	if b.TryReserve(1) {
		t.Error("81 of 50 bytes are taken")
	}
	b.Release(40)
	if !b.TryReserve(10) || b.TryReserve(1) || b.Limit() != 50 {
		t.Errorf("%d of %d bytes are taken", b.Used(), b.Limit())
	}
}
