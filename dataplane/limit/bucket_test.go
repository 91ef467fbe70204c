package limit

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestABucketGivesItsBurstAndThenItsRate(t *testing.T) {
	b := NewBucket(Rate{Count: 10, Period: time.Second, Burst: 3}, noon)
	for _, c := range []struct {
		after time.Duration
		want  Verdict
	}{
		{0, Verdict{OK: true, Remaining: 2, Reset: 100 * time.Millisecond}},
		{0, Verdict{OK: true, Remaining: 1, Reset: 200 * time.Millisecond}},
		{0, Verdict{OK: true, Remaining: 0, Reset: 300 * time.Millisecond}},
		{0, Verdict{Reset: 300 * time.Millisecond, RetryAfter: 100 * time.Millisecond}},
		{60 * time.Millisecond, Verdict{Reset: 240 * time.Millisecond, RetryAfter: 40 * time.Millisecond}},
		{100 * time.Millisecond, Verdict{OK: true, Remaining: 0, Reset: 300 * time.Millisecond}},
		{50 * time.Millisecond, Verdict{Reset: 350 * time.Millisecond, RetryAfter: 150 * time.Millisecond}}, // a clock that goes backwards
		{time.Hour, Verdict{OK: true, Remaining: 2, Reset: 100 * time.Millisecond}},
	} {
		if got := b.Take(noon.Add(c.after)); got != c.want {
			t.Errorf("after %v: got %+v, want %+v", c.after, got, c.want)
		}
	}
}

func TestARateWithoutACountGivesItsBurstOnly(t *testing.T) {
	for _, r := range []Rate{{Burst: 2}, {Count: 1, Burst: 2}, {Period: time.Second, Burst: 2}, {Count: 1, Period: 1 << 62, Burst: 2}} {
		b := NewBucket(r, noon)
		var got []bool
		for range 3 {
			got = append(got, b.Take(noon).OK)
		}
		if !got[0] || !got[1] || got[2] || b.Take(noon.Add(10*365*24*time.Hour)).OK {
			t.Errorf("%+v: %v", r, got)
		}
	}
}

func TestABucketKeepsItsBoundUnderConcurrentUse(t *testing.T) {
	b := NewBucket(Rate{Count: 1000, Period: time.Second, Burst: 50}, noon)
	var clock, passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if b.Take(noon.Add(time.Duration(clock.Add(int64(10 * time.Microsecond))))).OK {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n > 450 || n < 440 {
		t.Errorf("%d went through in 0.4 s, want 50 and 400", n)
	}
}

// FuzzKeyed holds the bound of each key and of all together, whatever comes and
// whoever is pushed out.
func FuzzKeyed(f *testing.F) {
	f.Add(uint16(100), uint8(5), []byte("abababaccca\xff\xffbabadefghijklmnopqrstuvwxyz\x01\x02a\x03a"))
	f.Add(uint16(1), uint8(1), []byte("aaaaaaaaa"))
	f.Add(uint16(1000), uint8(200), []byte("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, perSecond uint16, burst uint8, what []byte) {
		rate := Rate{Count: uint32(perSecond), Period: time.Second, Burst: uint32(burst)}
		k := NewKeyed(rate, ways, NewKeyBudget(0, noon))
		passed := map[byte][]time.Duration{}
		var all []time.Duration
		var at time.Duration
		for i, b := range what {
			at += time.Duration(b>>5) * time.Millisecond
			for range 1 + i%3 {
				v := k.Take([]byte{b & 31}, noon.Add(at))
				if v.OK {
					passed[b&31] = append(passed[b&31], at)
					all = append(all, at)
				}
				if v.OK == (v.RetryAfter > 0) || v.Reset < 0 || !v.OK && v.Remaining > 0 {
					t.Fatalf("%+v", v)
				}
			}
		}
		for _, times := range passed {
			checkRate(t, rate, 1, times)
		}
		checkRate(t, rate, ways, all)
	})
}

// checkRate fails if in any period more went through than some buckets let.
func checkRate(t *testing.T, r Rate, buckets int, times []time.Duration) {
	t.Helper()
	for i := range times {
		for j := i; j < len(times); j++ {
			most := float64(max(r.Burst, 1)) + (times[j]-times[i]).Seconds()*float64(r.Count)
			if float64(j-i+1) > most*float64(buckets)+1e-6 {
				t.Fatalf("%d went through from %v to %v, and %v may", j-i+1, times[i], times[j], most*float64(buckets))
			}
		}
	}
}

// FuzzKeyedResize holds the bound of each key while its filter comes to more keys
// and to fewer again.
func FuzzKeyedResize(f *testing.F) {
	f.Add(uint16(100), uint8(5), []byte("abababaccca\xff\xffbabadefghijklmnopqrstuvwxyz\x01\x02a\x03a"))
	f.Add(uint16(3), uint8(1), []byte("abcdefghijklmnopqrstuvwxyz0abcdefghijklmnopqrstuvwxyz3abcdefghijklmnopqrstuvwxyz1abcdefghijklmnopqrstuvwxyz"))
	f.Add(uint16(1000), uint8(200), []byte("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, perSecond uint16, burst uint8, what []byte) {
		rate := Rate{Count: uint32(perSecond), Period: time.Second, Burst: uint32(burst)}
		k := NewKeyed(rate, leastSets*ways, NewKeyBudget(0, noon))
		passed := map[[2]byte][]time.Duration{}
		var at time.Duration
		for i, b := range what {
			if '0' <= b && b <= '3' {
				k.resize(1 << (b - '0'))
				continue
			}
			at += time.Duration(b>>5) * time.Millisecond
			key := [2]byte{b & 31, byte(i % 5)}
			for range 1 + i%3 {
				if k.Take(key[:], noon.Add(at)).OK {
					passed[key] = append(passed[key], at)
				}
			}
		}
		for _, times := range passed {
			checkRate(t, rate, 1, times)
		}
	})
}

func TestAFloodOfKeysGivesNobodyMoreThanItsRate(t *testing.T) {
	rate := Rate{Count: 5, Period: time.Second, Burst: 5}
	k := NewKeyed(rate, 64, NewKeyBudget(0, noon))
	r := rand.New(rand.NewPCG(1, 2))
	var mine, all []time.Duration
	var key [8]byte
	for i := range 30000 {
		at := time.Duration(i) * 100 * time.Microsecond
		binary.BigEndian.PutUint64(key[:], r.Uint64N(5000)+1)
		if i%50 == 0 {
			clear(key[:])
		}
		if !k.Take(key[:], noon.Add(at)).OK {
			continue
		}
		all = append(all, at)
		if i%50 == 0 {
			mine = append(mine, at)
		}
	}
	checkRate(t, rate, 1, mine)
	if most := 64 * (5 + 5*3); len(all) > most || len(all) < most/2 {
		t.Errorf("%d of a flood went through, want up to %d", len(all), most)
	}
}

func TestKeysThatFitDoNotDisturbEachOther(t *testing.T) {
	k := NewKeyed(Rate{Count: 1, Period: time.Hour, Burst: 1}, 8000, NewKeyBudget(8192, noon))
	refused := 0
	for i := range 1000 {
		if !k.Take(binary.BigEndian.AppendUint64(nil, uint64(i)), noon).OK {
			refused++
		}
	}
	if refused > 5 { // by chance nine of them may be in one set
		t.Errorf("%d of 1000 keys were refused at their first request", refused)
	}
}

func TestReplicasShareARateAndABurstWithoutForgetting(t *testing.T) {
	k := NewKeyed(Rate{Count: 100, Period: time.Second, Burst: 40}, 8, NewKeyBudget(0, noon))
	key := []byte("203.0.113.7")
	take := func(now time.Time) (n int) {
		for k.Take(key, now).OK {
			n++
		}
		return n
	}
	for range 20 {
		k.Take(key, noon)
	}
	k.Share(4)
	if got := take(noon); got != 5 {
		t.Errorf("half of a bucket gave %d when its burst became 10", got)
	}
	if got := take(noon.Add(time.Second / 5)); got != 5 {
		t.Errorf("a fourth of 100/s gave %d in a fifth of a second", got)
	}
	k.Share(0) // as one
	if got := take(noon.Add(time.Second / 5)); got != 0 {
		t.Errorf("an empty bucket gave %d when its burst grew", got)
	}
	k.Share(100)
	if got := take(noon.Add(time.Minute)); got != 1 {
		t.Errorf("a share of less than one gave %d at once, want 1", got)
	}
}

func TestTakingAllocatesNothing(t *testing.T) {
	k := NewKeyed(Rate{Count: 100, Period: time.Second, Burst: 10}, 1000, NewKeyBudget(1024, noon))
	b := NewBucket(Rate{Count: 100, Period: time.Second, Burst: 10}, noon)
	var key [4]byte
	i := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		i++
		binary.BigEndian.PutUint32(key[:], i)
		k.Share(3)
		k.Take(key[:], noon.Add(time.Duration(i)*time.Millisecond))
		b.Take(noon.Add(time.Duration(i) * time.Millisecond))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBucketTake(b *testing.B) {
	bucket := NewBucket(Rate{Count: 100, Period: time.Second, Burst: 10}, noon)
	b.ReportAllocs()
	for b.Loop() {
		bucket.Take(noon)
	}
}

func BenchmarkKeyedTake(b *testing.B) {
	k := NewKeyed(Rate{Count: 100, Period: time.Second, Burst: 10}, 1<<16, NewKeyBudget(1<<16, noon))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var key [16]byte
		for i := uint64(0); pb.Next(); i++ {
			binary.BigEndian.PutUint64(key[:], i%5000)
			k.Take(key[:], noon)
		}
	})
}
