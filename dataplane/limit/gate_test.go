package limit

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// enter calls Enter in a goroutine and waits until it is in the queue or done.
func enter(g *Gate, deadline time.Time, alive func() bool) <-chan Admission {
	out := make(chan Admission, 1)
	go func() { out <- g.Enter(time.Now(), deadline, alive) }()
	synctest.Wait()
	return out
}

// answered returns what a wait ended with, which it must have.
func answered(t *testing.T, out <-chan Admission) Admission {
	t.Helper()
	synctest.Wait()
	select {
	case a := <-out:
		return a
	default:
		t.Error("still waiting")
		return Gone
	}
}

func TestThoseWhoWaitEnterInTheOrderOfTheirComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2, 100, 0)
		g.TryEnter()
		g.TryEnter()
		var mu sync.Mutex
		var order []int
		for i := range 50 {
			go func() {
				if a := g.Enter(time.Now(), time.Time{}, nil); a != Admitted {
					t.Errorf("%d: %v", i, a)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		for range 50 {
			g.Leave()
			if g.TryEnter() {
				t.Error("somebody passed those who wait")
			}
			synctest.Wait()
		}
		if !slices.IsSorted(order) || len(order) != 50 {
			t.Errorf("entered in the order %v", order)
		}
		if g.Inside() != 2 || g.Waiting() != 0 {
			t.Errorf("%d inside, %d waiting", g.Inside(), g.Waiting())
		}
	})
}

func TestAWaitEndsByWhatComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := began.Add
		g := NewGate(1, 3, 5*time.Second)
		g.TryEnter()
		var dead atomic.Bool
		aged := enter(g, after(time.Minute), nil)
		late := enter(g, after(time.Second), nil)
		gone := enter(g, time.Time{}, func() bool { return !dead.Load() })
		if got := answered(t, enter(g, time.Time{}, nil)); got != Full {
			t.Errorf("the fourth: %v", got)
		}
		time.Sleep(time.Second)
		if got := answered(t, late); got != Late {
			t.Errorf("after its deadline: %v", got)
		}
		dead.Store(true)
		time.Sleep(time.Second)
		if got := answered(t, gone); got != Gone {
			t.Errorf("after it was given up: %v", got)
		}
		time.Sleep(2 * time.Second)
		if len(aged) > 0 {
			t.Error("it did not wait for its whole time")
		}
		time.Sleep(time.Second)
		if got := answered(t, aged); got != Aged {
			t.Errorf("after the age limit: %v", got)
		}
		if got := answered(t, enter(g, began, nil)); got != Late {
			t.Errorf("with a deadline that has passed: %v", got)
		}
		if g.Waiting() != 0 || g.Inside() != 1 {
			t.Errorf("%d inside, %d waiting", g.Inside(), g.Waiting())
		}
		// The places are used again, and so are their timers.
		next := enter(g, after(time.Minute), nil)
		g.Leave()
		if got := answered(t, next); got != Admitted {
			t.Errorf("when there is room: %v", got)
		}
	})
}

func TestAGateWithoutAQueueRefusesAtOnce(t *testing.T) {
	g := NewGate(1, 0, 0)
	for i, want := range []Admission{Admitted, Full} {
		if got := g.Enter(noon, time.Time{}, nil); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	g.SetLimit(0)
	if got := g.Enter(noon, time.Time{}, nil); got != Admitted || g.Limit() != 0 {
		t.Errorf("without a limit: %v", got)
	}
}

func TestAHigherLimitLetsInThoseWhoWaitAndALowerOneNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(3, 10, 0)
		for range 3 {
			g.TryEnter()
		}
		a, b := enter(g, time.Time{}, nil), enter(g, time.Time{}, nil)
		g.SetLimit(4)
		if got := answered(t, a); got != Admitted || len(b) > 0 {
			t.Errorf("with one place more: %v, %d", got, len(b))
		}
		g.SetLimit(2)
		g.Leave()
		g.Leave()
		synctest.Wait()
		if len(b) > 0 || g.Inside() != 2 {
			t.Errorf("with a limit of 2 one entered to %d", g.Inside())
		}
		g.Leave()
		if got := answered(t, b); got != Admitted {
			t.Errorf("below the limit: %v", got)
		}
	})
}

// TestNoWakeupIsLost has many goroutines enter, give up and leave while the
// limit changes. In the bubble, a wakeup that is lost is a deadlock.
func TestNoWakeupIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(3, 20, 0)
		var inside atomic.Int64
		var verdicts [Gone + 1]atomic.Int64
		var wg sync.WaitGroup
		for w := range 32 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(7, uint64(w)))
				for range 300 {
					var deadline time.Time
					var alive func() bool
					switch r.IntN(4) {
					case 0:
						deadline = time.Now().Add(time.Duration(r.IntN(20)) * time.Millisecond)
					case 1:
						alive = func() bool { return false }
					}
					a := g.Enter(time.Now(), deadline, alive)
					verdicts[a].Add(1)
					if a != Admitted {
						time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
						continue
					}
					if n := inside.Add(1); n > 6 {
						t.Errorf("%d inside", n)
					}
					time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
					inside.Add(-1)
					g.Leave()
				}
			})
		}
		wg.Go(func() {
			for i := range 200 {
				g.SetLimit(uint32(1 + i%6))
				time.Sleep(time.Millisecond)
				if i%66 != 0 {
					continue
				}
				for g.Enter(time.Now(), time.Time{}, nil) != Admitted {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(aliveEvery + time.Millisecond) // at a limit of 1, so that some give up
				g.Leave()
			}
			g.SetLimit(3)
		})
		wg.Wait()
		if g.Inside() != 0 || g.Waiting() != 0 {
			t.Errorf("%d inside and %d waiting at the end", g.Inside(), g.Waiting())
		}
		for _, a := range []Admission{Admitted, Full, Late, Gone} {
			if verdicts[a].Load() == 0 {
				t.Errorf("nobody was told %v", a)
			}
		}
	})
}

// TestManyAtOnceNeverPassTheLimit is the same without a bubble, on all cores.
func TestManyAtOnceNeverPassTheLimit(t *testing.T) {
	g := NewGate(3, 100, 0)
	var inside atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 2000 {
				if a := g.Enter(time.Time{}, time.Time{}, nil); a != Admitted {
					t.Errorf("%v", a)
					return
				}
				if n := inside.Add(1); n > 3 {
					t.Errorf("%d inside", n)
				}
				inside.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	if g.Inside() != 0 || g.Waiting() != 0 {
		t.Errorf("%d inside and %d waiting at the end", g.Inside(), g.Waiting())
	}
}

func TestEnteringWithoutAQueueAllocatesNothing(t *testing.T) {
	g := NewGate(10, 10, time.Second)
	if n := testing.AllocsPerRun(100, func() {
		g.Enter(noon, noon.Add(time.Second), nil)
		g.Leave()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	g := NewGate(1000, 10, time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if g.Enter(noon, noon.Add(time.Second), nil) == Admitted {
				g.Leave()
			}
		}
	})
}

// BenchmarkEnterAfterAWait is what a place in the queue costs: four for one.
func BenchmarkEnterAfterAWait(b *testing.B) {
	g := NewGate(1, 1<<20, time.Hour)
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.Enter(noon, time.Time{}, nil)
			g.Leave()
		}
	})
}
