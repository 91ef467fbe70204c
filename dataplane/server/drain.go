package server

import (
	"cmp"
	"context"
	"net"
	"slices"
	"time"
)

// DrainTimes say how long a drain waits for what.
type DrainTimes struct {
	// Delay is how long everything goes on while answers close their
	// connections; the other times count from its end.
	Delay time.Duration
	// Timeout of requests in flight.
	Timeout time.Duration
	// Upgraded is that of tunnels.
	Upgraded time.Duration
}

// Cut counts what a drain had to cut because its time was up.
type Cut struct{ Requests, Upgraded int }

const (
	// newGrace is how long a connection that has sent nothing yet may take for
	// that once the listeners are closed: whoever has just connected is about to
	// send a request.
	newGrace = time.Second
	// cutNotice is how long what was cut has to notice and be recorded, and what
	// was answered to end.
	cutNotice = 2 * time.Second
	// looks is into how many parts the delay is divided for the looks at who else shares
	// a port, which are at most two: most of it is left for handshakes to end.
	looks = 8
	// longestLook is more than a connection takes to be accepted, and less than it may
	// stay silent.
	longestLook = time.Second
)

// Drain ends the server: for t.Delay it goes on accepting while every answer
// closes its connection, because load balancers learn late that a replica goes;
// where another process shares the port, that gets the new connections. Then it takes
// in the connections that wait in the queues of the listeners, closes these and the
// idle connections, and waits: for requests until t.Timeout, for tunnels until
// t.Upgraded. What is left then is cut. ctx cuts everything short.
func (s *Server) Drain(ctx context.Context, t DrainTimes) Cut {
	began := time.Now()
	s.draining.Store(true)
	listeners := s.open()
	for _, l := range listeners {
		s.yield(ctx, l, min(t.Delay/time.Duration(looks*len(listeners)), longestLook))
	}
	sleep(ctx, t.Delay-time.Since(began))
	s.closing.Store(true)
	s.closeListeners()
	s.each(func(c *conn) { c.closeIf(connIdle) })
	steps := []step{
		{min(newGrace, t.Timeout), func() { s.each(func(c *conn) { c.closeIf(connNew) }) }},
		{t.Timeout, func() { s.each((*conn).cutRequest) }},
		{t.Upgraded, s.endUpgraded},
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	waited := time.Duration(0)
	for _, step := range steps {
		if s.awaitEmpty(ctx, step.at-waited) {
			break
		}
		step.do()
		waited = step.at
	}
	s.awaitEmpty(context.WithoutCancel(ctx), cutNotice)
	return Cut{Requests: int(s.cutRequests.Load()), Upgraded: int(s.cutUpgraded.Load())}
}

// step is what a drain does when some time after its delay has passed.
type step struct {
	at time.Duration
	do func()
}

func (s *Server) endUpgraded() {
	s.upgradedOver.Store(true)
	s.each((*conn).endTunnel)
}

// awaitEmpty waits for the last connection to end and reports whether it has.
func (s *Server) awaitEmpty(ctx context.Context, timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.empty:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *Server) signalEmpty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// open returns the listeners.
func (s *Server) open() []net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listeners)
}

func (s *Server) closeListeners() {
	for _, l := range s.open() {
		if q, ok := l.(interface{ Last() []net.Conn }); ok { // with a queue that closing would reset
			for _, nc := range q.Last() {
				s.start(nc)
			}
		}
		_ = l.Close() // it accepts nothing more either way
	}
	s.accepting.Wait() // what was accepted last is in the list now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete = true
}

// each calls f for every connection; when there is none, the server is empty. It
// is for a list that is complete.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	first := s.first
	for c := first; c != nil; c = c.next {
		f(c)
	}
	s.mu.Unlock()
	if first == nil {
		s.signalEmpty()
	}
}
