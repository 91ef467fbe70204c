package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// slowService is the sample Service whose backend takes its time.
const (
	slowService = "reports"
	slowAnswer  = 300 * time.Millisecond
)

// backend is a server that says who it is and what reached it.
type backend struct {
	service string
	addr    netip.AddrPort
	failing atomic.Bool
	server  http.Server
}

// backendsOf returns a backend for each address and port of the slices.
func backendsOf(endpointSlices []*discoveryv1.EndpointSlice) ([]*backend, error) {
	var all []*backend
	for _, s := range endpointSlices {
		for _, port := range s.Ports {
			for _, e := range s.Endpoints {
				for _, a := range e.Addresses {
					ip, err := netip.ParseAddr(a)
					if err != nil || !ip.IsLoopback() || port.Port == nil {
						return nil, fmt.Errorf("EndpointSlice %s/%s: %q must be a loopback address with a port", s.Namespace, s.Name, a)
					}
					all = append(all, newBackend(s.Labels[discoveryv1.LabelServiceName], netip.AddrPortFrom(ip, uint16(*port.Port))))
				}
			}
		}
	}
	return all, nil
}

func newBackend(service string, addr netip.AddrPort) *backend {
	b := &backend{service: service, addr: addr}
	b.server.Handler = b
	b.server.ReadHeaderTimeout = 10 * time.Second
	return b
}

// start listens, then serves in the background until close. failed is told when
// serving ends in another way.
func (b *backend) start(failed chan<- error) error {
	l, err := net.Listen("tcp", b.addr.String())
	if err != nil {
		return portError(b.addr.String(), "the sample backend of Service "+b.service, err)
	}
	go func() {
		if err := b.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("backend %s: %w", b.addr, err)
		}
	}()
	return nil
}

func (b *backend) close() { b.server.Close() }

// ServeHTTP answers with the backend's name and the request as it arrived.
//
//	POST /-/fail, /-/recover    from now on close connections unanswered, or stop that
//	?delay=2s                   answer after this long
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/-/fail":
		b.failing.Store(true)
		fmt.Fprintf(w, "%s at %s fails from now on\n", b.service, b.addr)
		return
	case r.Method == http.MethodPost && r.URL.Path == "/-/recover":
		b.failing.Store(false)
		fmt.Fprintf(w, "%s at %s answers again\n", b.service, b.addr)
		return
	case b.failing.Load():
		panic(http.ErrAbortHandler)
	}
	if !pause(r.Context(), b.delay(r)) {
		return
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s at %s\n%s %s\nHost: %s\n", b.service, b.addr, r.Method, r.URL.RequestURI(), r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&s, "%s: %s\n", name, strings.Join(r.Header[name], ", "))
	}
	fmt.Fprint(w, s.String())
}

func (b *backend) delay(r *http.Request) time.Duration {
	if d, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
		return d
	}
	if b.service == slowService {
		return slowAnswer
	}
	return 0
}

// pause waits, and reports whether the client is still there.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// portError says what could not listen where, and what to do about it.
func portError(addr, what string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Errorf("%s cannot listen on %s: %w\nstop what uses the port (ss -ltnp 'sport = :%s' shows it) and try again", what, addr, err, port)
}
