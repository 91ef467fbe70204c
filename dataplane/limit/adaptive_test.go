package limit

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// server is a pool in a simulation: workers that take requests off a queue and
// need service for each, evenly from half to one and a half of it.
type server struct {
	workers int
	service time.Duration
	random  *rand.Rand
	now     time.Time
	inside  uint32
	// When the workers will be free, and the requests that are under way.
	free ends
	way  requests
}

type (
	request  struct{ began, ends time.Time }
	requests []request
	ends     []time.Time
)

func (r requests) Len() int           { return len(r) }
func (r requests) Less(i, j int) bool { return r[i].ends.Before(r[j].ends) }
func (r requests) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *requests) Push(x any)        { *r = append(*r, x.(request)) }
func (r *requests) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].Before(e[j]) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(time.Time)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newServer(workers int, service time.Duration) *server {
	return &server{workers: workers, service: service, random: rand.New(rand.NewPCG(3, 4)), now: noon}
}

// send gives the server a request now.
func (s *server) send() {
	start := s.now
	if len(s.free) >= s.workers {
		for len(s.free) > s.workers {
			heap.Pop(&s.free)
		}
		if at := heap.Pop(&s.free).(time.Time); at.After(start) {
			start = at
		}
	}
	end := start.Add(s.service/2 + time.Duration(s.random.Int64N(int64(s.service))))
	heap.Push(&s.free, end)
	heap.Push(&s.way, request{s.now, end})
	s.inside++
}

// run lets clients who want more than the limit, or want many at most, use the
// server for a time. It returns the mean of the limit in the second half and how
// many requests ended.
func (s *server) run(a *Adaptive, want uint32, period time.Duration) (mean float64, done int) {
	end, half := s.now.Add(period), s.now.Add(period/2)
	n := 0
	for s.now.Before(end) {
		for s.inside < min(a.Limit(), want) {
			s.send()
		}
		r := heap.Pop(&s.way).(request)
		s.now = r.ends
		a.Observe(r.began, s.now, s.inside)
		s.inside--
		done++
		if s.now.After(half) {
			n++
			mean += float64(a.Limit())
		}
	}
	return mean / float64(max(n, 1)), done
}

const always = 1 << 31 // more requests than any limit

func adaptive() *Adaptive {
	return NewAdaptive(plan.AdaptiveConcurrency{MinRequests: 3, MaxRequests: 1000}, noon)
}

func TestTheLimitComesNearTheCapacityOfTheServer(t *testing.T) {
	for _, c := range []struct {
		workers int
		service time.Duration
		period  time.Duration
	}{
		{5, 10 * time.Millisecond, time.Minute}, {50, 10 * time.Millisecond, 20 * time.Second},
		{50, 300 * time.Millisecond, 4 * time.Minute}, {200, 50 * time.Millisecond, 20 * time.Second},
	} {
		a, s := adaptive(), newServer(c.workers, c.service)
		mean, done := s.run(a, always, c.period)
		t.Logf("%d workers, %v: limit %.0f", c.workers, c.service, mean)
		if most := 2*float64(c.workers) + 2; mean < 0.8*float64(c.workers) || mean > most {
			t.Errorf("%d workers of %v: a limit of %.0f, want %d to %.0f", c.workers, c.service, mean, c.workers, most)
		}
		if full := float64(c.workers) * c.period.Seconds() / c.service.Seconds(); float64(done) < 0.9*full {
			t.Errorf("%d workers of %v did %d requests, and can do %.0f", c.workers, c.service, done, full)
		}
	}
}

func TestAStepInLatencyHalvesTheLimitSoonAndItRecovers(t *testing.T) {
	a, s := adaptive(), newServer(20, 10*time.Millisecond)
	before, _ := s.run(a, always, 20*time.Second)
	s.service *= 10
	until := s.now.Add(2 * time.Second)
	for uint32(before/2) < a.Limit() && s.now.Before(until) {
		s.run(a, always, 10*time.Millisecond)
	}
	if l := a.Limit(); float64(l) > before/2 {
		t.Errorf("two seconds after a step in latency the limit is %d, and was %.0f", l, before)
	}
	s.service /= 10
	if after, _ := s.run(a, always, 20*time.Second); after < 0.8*20 {
		t.Errorf("seconds after the server recovered the limit is %.0f, and was %.0f", after, before)
	}
}

// A pool that hangs brings the limit to its least, or makes a base of minutes, with
// windows as long.
func TestTheLimitComesBackSoonAfterAPoolHung(t *testing.T) {
	for _, hang := range []time.Duration{5 * time.Second, 30 * time.Second, time.Minute} {
		a, s := NewAdaptive(plan.AdaptiveConcurrency{MinRequests: 1, MaxRequests: 1000}, noon), newServer(50, 10*time.Millisecond)
		s.run(a, always, 20*time.Second)
		s.service = hang
		s.run(a, always, 10*time.Minute)
		s.service, s.free, s.way, s.inside = 10*time.Millisecond, nil, nil, 0 // they have timed out
		if after, _ := s.run(a, always, 4*time.Second); after < 0.8*50 {
			t.Errorf("after %v: seconds later the limit is %.0f", hang, after)
		}
		s.run(a, always, 20*time.Second)
		if l := a.Limit(); l < 40 || l > 100 {
			t.Errorf("after %v: at last it is %d", hang, l)
		}
	}
}

func TestALatencyThatIsHigherForGoodBecomesTheBase(t *testing.T) {
	a, s := adaptive(), newServer(20, 10*time.Millisecond)
	s.run(a, always, 20*time.Second)
	s.service *= 4
	if after, _ := s.run(a, always, time.Minute); after < 0.8*20 || after > 2*20 {
		t.Errorf("a minute after the server became slower the limit is %.0f", after)
	}
}

func TestTheLimitStaysWithinItsBounds(t *testing.T) {
	a, s := NewAdaptive(plan.AdaptiveConcurrency{MinRequests: 8, MaxRequests: 30}, noon), newServer(200, 10*time.Millisecond)
	check := func() {
		t.Helper()
		if l := a.Limit(); l < 8 || l > 30 {
			t.Fatalf("the limit is %d", l)
		}
	}
	for i := range 2000 {
		s.run(a, always, 50*time.Millisecond)
		check()
		switch i {
		case 500:
			s.service *= 100
		case 1500:
			s.service /= 100
		}
	}
	if l := a.Limit(); l < 15 {
		t.Errorf("at the end the limit is %d", l)
	}
}

func TestALimitThatIsNotReachedDoesNotGrow(t *testing.T) {
	a, s := adaptive(), newServer(50, 10*time.Millisecond)
	s.run(a, 5, time.Minute)
	if l := a.Limit(); l > firstLimit {
		t.Errorf("five requests at a time made a limit of %d", l)
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	a := adaptive()
	now := noon
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		a.Observe(now, now.Add(5*time.Millisecond), 10)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	a := adaptive()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		now := noon
		for pb.Next() {
			now = now.Add(10 * time.Microsecond)
			a.Observe(now, now.Add(5*time.Millisecond), 10)
		}
	})
}
