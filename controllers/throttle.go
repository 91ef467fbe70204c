package controllers

import (
	"sync"
	"time"
)

// logAgain is the time after which a message that would otherwise repeat every
// second or so is logged again.
const logAgain = 30 * time.Second

// throttle lets a repeated message through when it is new and then once in
// logAgain. The zero value is ready; it is safe for concurrent use.
type throttle struct {
	mu   sync.Mutex
	last string
	at   time.Time
}

// allow says whether msg should be logged now.
func (t *throttle) allow(msg string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if msg == t.last && now.Sub(t.at) < logAgain {
		return false
	}
	t.last, t.at = msg, now
	return true
}

// reset makes the next message new; it is for the moment when things are well
// again. It says whether a message had been let through since the last reset.
func (t *throttle) reset() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	had := t.last != ""
	t.last = ""
	return had
}
