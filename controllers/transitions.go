package controllers

import (
	"sync"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxTransitions bounds what waits to be told.
const maxTransitions = 1000

// Transitions takes what the data plane finds out about endpoints and keeps it
// until the controllers look. It is safe for concurrent use.
type Transitions struct {
	news chan struct{} // holds something when something waits

	mu      sync.Mutex
	waiting []plan.Transition
}

// NewTransitions returns an empty Transitions.
func NewTransitions() *Transitions {
	return &Transitions{news: make(chan struct{}, 1)}
}

// OnTransition takes one. It does not block: when nobody looks, the latest are
// dropped.
func (t *Transitions) OnTransition(tr plan.Transition) {
	t.mu.Lock()
	if len(t.waiting) < maxTransitions {
		t.waiting = append(t.waiting, tr)
	}
	t.mu.Unlock()
	signal(t.news)
}

// take returns what waits, oldest first.
func (t *Transitions) take() []plan.Transition {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := t.waiting
	t.waiting = nil
	return waiting
}

// signal puts something into a channel of capacity 1, unless something is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
