package kubetest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Wire is a network that can be cut between one client and everything else; its
// Dial is for a rest.Config. The zero value is whole. It may be used by several
// goroutines.
type Wire struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

// Dial connects, unless the wire is cut.
func (w *Wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return nil, errors.New("the wire is cut")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		w.conns = append(w.conns, conn)
	}
	return conn, err
}

// Cut breaks all connections and refuses new ones until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.conns {
		_ = c.Close() // it is to be broken
	}
	w.conns = nil
}

// Mend undoes Cut; what it broke stays broken.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}
