//go:build !linux

package server

import (
	"context"
	"net"
	"syscall"
	"time"
)

// control sets nothing: the options are there on Linux only.
func control(bool) func(network, address string, c syscall.RawConn) error { return nil }

// Shared says no: listeners are not shared between processes here.
func Shared(string) (bool, error) { return false, nil }

// cheap returns the listener as it is.
func cheap(l net.Listener) (net.Listener, error) { return l, nil }

// yield does nothing, as listeners are not shared.
func (s *Server) yield(context.Context, net.Listener, time.Duration) {}
