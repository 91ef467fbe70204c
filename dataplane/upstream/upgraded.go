package upstream

import (
	"sync"
	"time"
)

// upgraded is the upgraded connections of an address and what is to become of
// them. Ordinary requests have nothing to do with it. Endpoints of one
// address may share it: the address has left when all of them are gone.
//
//	           leave, or the last part             time is up
//	staying ─────────────────────────────→ leaving ───────────→ over
//	   ↑                                      │                   │
//	   └──────────────────────────────────────┴───────────────────┘
//	                 stay, while an endpoint has it
//
// Whoever comes while it is over is asked to end at once: requests of sessions
// still go to an endpoint that is terminating.
type upgraded struct {
	mu      sync.Mutex
	holders int // endpoints that share it and are not gone
	last    uint64
	ends    map[uint64]func()
	timer   *time.Timer // not nil: leaving
	over    bool
}

// Upgraded tells the endpoint of an upgraded connection. end is called, from any
// goroutine, when the endpoint is terminating or gone and the policy's
// DrainTimeout has passed; it must not block. release ends that: after it, end is
// not called any more.
func (e *Endpoint) Upgraded(end func()) (release func()) {
	u := e.upgraded
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		end()
		return func() {}
	}
	if u.ends == nil {
		u.ends = make(map[uint64]func())
	}
	u.last++
	id := u.last
	u.ends[id] = end
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.ends, id)
	}
}

// join counts an endpoint that has the address.
func (u *upgraded) join() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.holders++
}

// part takes a join back.
func (u *upgraded) part(after time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.holders--; u.holders == 0 {
		u.begin(after)
	}
}

// leave says that the endpoint is terminating.
func (u *upgraded) leave(after time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begin(after)
}

// begin lets the time run, from when it was called first; 0: there is no limit.
func (u *upgraded) begin(after time.Duration) {
	if u.timer == nil && !u.over && after > 0 {
		u.timer = time.AfterFunc(after, u.expire)
	}
}

// stay says that the endpoint is ready.
func (u *upgraded) stay() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	u.over = false
}

// expire ends all when the time is up.
func (u *upgraded) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timer == nil {
		return // it stays after all
	}
	u.timer, u.over = nil, true
	for _, end := range u.ends {
		end()
	}
}
