package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/admin"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/server"
)

// again is the time between two looks whether a listener can be opened by now.
const again = 20 * time.Millisecond

// open opens the listeners. Where another process serves on the HTTP address
// already, this one takes over from it: it joins only when it can serve, because
// the kernel gives it connections from then on, and its admin port comes when
// the other process has closed its own. failed gets the error that ends this.
func (e *Engine) open(ctx context.Context) (failed <-chan error, err error) {
	joins := false
	if e.config.HTTP != "" && e.config.ReusePort {
		if joins, err = server.Shared(e.config.HTTP); err != nil {
			return nil, fmt.Errorf("cannot listen for http: %w", err)
		}
	}
	if err := e.serveAdmin(ctx, joins); err != nil {
		return nil, err
	}
	failures := make(chan error, 1)
	if !joins {
		return failures, e.serveHTTP(ctx)
	}
	e.config.Log.Info("another process serves on the address; joining it as soon as there are routes", "address", e.config.HTTP)
	go func() {
		for e.proxy.Table() == nil || e.checked() != nil {
			if !pause(ctx, again) {
				return
			}
		}
		if e.server.Draining() {
			return
		}
		if err := e.serveHTTP(ctx); err != nil {
			failures <- err
		}
	}()
	return failures, nil
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// listen opens a listener by open and makes its address known.
func (e *Engine) listen(name, addr string, open func(addr string) (net.Listener, error)) (net.Listener, error) {
	l, err := open(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for %s: %w", name, err)
	}
	e.addrMu.Lock()
	defer e.addrMu.Unlock()
	e.addrs[name] = l.Addr()
	e.config.Log.Info("listening", "for", name, "address", l.Addr().String())
	return l, nil
}

func (e *Engine) serveHTTP(ctx context.Context) error {
	if e.config.HTTP == "" {
		e.listening.Store(true)
		return nil
	}
	l, err := e.listen("http", e.config.HTTP, func(addr string) (net.Listener, error) {
		return server.Listen(ctx, addr, e.config.ReusePort)
	})
	if err != nil {
		return err
	}
	go e.server.Serve(l)
	e.listening.Store(true)
	return nil
}

// serveAdmin opens the admin port. With waits, one that is in use is tried again
// until it is not.
func (e *Engine) serveAdmin(ctx context.Context, waits bool) error {
	if e.config.Admin == "" {
		return nil
	}
	listen := func() (net.Listener, error) {
		return e.listen("admin", e.config.Admin, func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) })
	}
	l, err := listen()
	if err != nil && waits && errors.Is(err, syscall.EADDRINUSE) {
		e.config.Log.Info("the admin port is in use, by the process before, it seems; trying again until it is free", "address", e.config.Admin)
		go func() {
			for err != nil {
				if !pause(ctx, again) {
					return
				}
				l, err = listen()
			}
			e.administer(ctx, l)
		}()
		return nil
	}
	if err != nil {
		return err
	}
	go e.administer(ctx, l)
	return nil
}

// administer serves the admin port until ctx ends.
func (e *Engine) administer(ctx context.Context, l net.Listener) {
	s := admin.New(admin.Config{
		Tokens: e.config.AdminTokens, Pprof: e.config.Pprof, Ready: e.Ready, Metrics: e.telemetry.Handler(),
		Explain: e.Explain, Routes: e.Routes, Endpoints: e.Endpoints, Served: e.Served, Log: e.config.Log,
	})
	if err := s.Serve(ctx, l); err != nil {
		e.config.Log.Error(err, "the admin port is gone", "address", l.Addr().String())
	}
}
