package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// latencyDecay is the time in which what is known of an endpoint's latency
	// loses its weight, to 1/e.
	latencyDecay = 10 * time.Second
	// latencyFloor is what an endpoint counts as at least: below it, only the
	// requests in flight tell two endpoints apart.
	latencyFloor = 100 * time.Microsecond
	// latencyUnknown is what an endpoint with a request in flight counts as
	// while it has not answered any, so that it does not draw all traffic.
	latencyUnknown = time.Second
	// penalty is the latency that a failure and an answer of 429 or 503 count as
	// at least. An endpoint that fails fast would look like the best one.
	penalty = 5 * time.Second
	// maxPenalty bounds what an endpoint asks for with Retry-After.
	maxPenalty = time.Minute
)

// ewma is a moving average of latencies that follows a rise at once and a fall
// slowly: Peak EWMA. Without samples it decays, so that an endpoint that was slow
// gets another chance. Its updates are atomic each, not together: two at the
// same time may weigh a sample by the wrong moment, which does not matter.
//
// While requests wait for an answer there is something to know: nothing decays,
// and the silence since the last of them was answered, or the first was sent, is
// the least that the latency can be. Else an endpoint that hangs would look
// better and better.
type ewma struct {
	cost  atomic.Uint64 // float64, in ns
	stamp atomic.Int64  // of the last sample, as Pool.since; 0: there was none

	waiting atomic.Int64 // requests without an answer
	silent  atomic.Int64 // since when, as Pool.since
}

// sent counts a request that waits for its answer.
func (w *ewma) sent(t int64) {
	if w.waiting.Add(1) == 1 {
		w.silent.Store(t)
	}
}

// heard ends the wait of a request, be it by an answer or not.
func (w *ewma) heard(t int64) {
	w.silent.Store(t)
	w.waiting.Add(-1)
}

// observe adds a sample at the time t.
func (w *ewma) observe(t int64, latency time.Duration) {
	t = max(t, 1)
	last := w.stamp.Swap(t)
	sample := float64(latency)
	for {
		bits := w.cost.Load()
		cost := math.Float64frombits(bits)
		if last == 0 || sample >= cost {
			cost = sample
		} else {
			keep := decay(t - last)
			cost = cost*keep + sample*(1-keep)
		}
		if w.cost.CompareAndSwap(bits, math.Float64bits(cost)) {
			return
		}
	}
}

// at is the average at the time t, and whether there was a sample ever.
func (w *ewma) at(t int64) (cost float64, known bool) {
	last := w.stamp.Load()
	cost = math.Float64frombits(w.cost.Load())
	if w.waiting.Load() > 0 {
		return max(cost, float64(t-w.silent.Load())), last != 0
	}
	return cost * decay(t-last), last != 0
}

func decay(ns int64) float64 {
	if ns <= 0 {
		return 1
	}
	return math.Exp(-float64(ns) / float64(latencyDecay))
}

// score is what a request would cost at an endpoint of that weight: lower is
// better. One of half the weight is as good with half as much in flight.
func (l *load) score(t int64, weight uint64) float64 {
	n := l.inFlight.Load()
	cost, known := l.latency.at(t)
	if !known && n > 0 {
		cost = max(cost, float64(latencyUnknown))
	}
	return max(cost, float64(latencyFloor)) * (float64(n)*weightOne/float64(weight) + 1)
}
