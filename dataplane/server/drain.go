package server

import (
	"context"
	"time"
)

func (s *Server) signalEmpty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// Drain ends the server: for delay it goes on accepting while every answer
// closes its connection, because load balancers learn late that a replica goes;
// then it closes the listeners and the idle connections and waits for the
// requests in flight until timeout; what is left then is cut. It returns the
// number of requests that were cut. ctx cuts everything short.
func (s *Server) Drain(ctx context.Context, delay, timeout time.Duration) (cut int) {
	s.draining.Store(true)
	sleep(ctx, delay)
	s.closing.Store(true)
	s.closeListeners()
	if s.closeIdle() == 0 {
		s.signalEmpty()
	}
	if s.awaitEmpty(ctx, timeout) {
		return 0
	}
	cut = s.closeAll()
	s.awaitEmpty(context.WithoutCancel(ctx), cutNotice)
	return cut
}

// cutNotice is how long the requests that were cut have to notice and be
// recorded.
const cutNotice = 2 * time.Second

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

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close() // it accepts nothing more either way
	}
}

// closeIdle closes the connections that wait for a request and returns how many
// there were in all.
func (s *Server) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := s.first; c != nil; c = c.next {
		c.closeIfIdle()
		n++
	}
	return n
}

// closeAll cuts every connection and returns how many had a request.
func (s *Server) closeAll() (cut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.first; c != nil; c = c.next {
		if c.state.CompareAndSwap(connBusy, connCut) {
			cut++
		}
		go c.nc.Close() // which may have to wait for the request to notice
	}
	return cut
}
