package controllers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
)

const holdOff = 30 * time.Millisecond

// queues are the queue that the controller uses and the plain one.
var queues = map[string]func() queue{
	"priority queue": func() queue { return priorityqueue.New[key]("test") },
	"plain queue": func() queue {
		return workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]())
	},
}

// builds takes keys from q until it is shut down, as the controller does, and
// notes when. Each takes the given time.
func builds(q queue, takes time.Duration) func() []time.Duration {
	start := time.Now()
	var at []time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			k, shutdown := q.Get()
			if shutdown {
				return
			}
			at = append(at, time.Since(start))
			_ = wait(context.Background(), takes)
			q.Done(k)
		}
	}()
	return func() []time.Duration {
		synctest.Wait()
		q.ShutDown()
		<-done
		return at
	}
}

func TestABurstOfEventsIsOneBuildOneHoldOffAfterTheFirst(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				end := builds(q, 0)
				tr := &trigger{holdOff: holdOff}
				for range 1000 {
					tr.fire(q)
				}
				_ = wait(t.Context(), time.Second)
				if at := end(); len(at) != 1 || at[0] != holdOff {
					t.Fatalf("builds at %v, want one at %v", at, holdOff)
				}
			})
		})
	}
}

func TestEventsWithoutEndDoNotPutOffTheBuild(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				end := builds(q, 0)
				tr := &trigger{holdOff: holdOff}
				for range 300 { // 300 ms of an event every millisecond
					tr.fire(q)
					_ = wait(t.Context(), time.Millisecond)
				}
				_ = wait(t.Context(), time.Second)
				at := end()
				if len(at) < 9 || len(at) > 11 {
					t.Fatalf("%d builds in 300 ms of events with a hold-off of %v, want about 10: %v", len(at), holdOff, at)
				}
			})
		})
	}
}

func TestAnEventDuringABuildLeadsToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queues["priority queue"]()
		end := builds(q, 100*time.Millisecond)
		tr := &trigger{holdOff: holdOff}
		tr.fire(q)
		_ = wait(t.Context(), 50*time.Millisecond) // the build began at 30
		tr.fire(q)
		_ = wait(t.Context(), time.Second)
		at := end()
		if len(at) != 2 || at[1] != 130*time.Millisecond {
			t.Fatalf("builds at %v, want 30ms and 130ms", at)
		}
	})
}

func TestPropagationCountsFromTheFirstEventThatNoPlanHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queues["plain queue"]()
		defer q.ShutDown()
		tr := &trigger{holdOff: holdOff}
		if !tr.take().IsZero() {
			t.Fatal("there is a first event before any")
		}
		first := time.Now()
		tr.fire(q)
		_ = wait(t.Context(), time.Second)
		tr.fire(q)
		since := tr.take()
		if !since.Equal(first) {
			t.Fatalf("first event %v, want %v", since, first)
		}
		_ = wait(t.Context(), time.Second)
		tr.fire(q) // while the build runs that fails
		tr.giveBack(since)
		if since := tr.take(); !since.Equal(first) {
			t.Fatalf("first event after a build that failed %v, want %v", since, first)
		}
		tr.giveBack(time.Time{}) // a retry without an event of its own
		tr.fire(q)
		now := time.Now()
		tr.giveBack(time.Time{})
		if since := tr.take(); !since.Equal(now) {
			t.Fatalf("first event %v, want %v", since, now)
		}
	})
}
