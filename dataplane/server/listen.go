package server

import (
	"context"
	"net"
)

// Listen opens a TCP listener for Serve. With shared, other processes of the
// same user may listen on the same address at the same time, if they ask for it
// as well: the kernel spreads new connections over them (SO_REUSEPORT), so that
// a new process can take over while the old one drains. Other
// systems than Linux do not spread, and shared is ignored there.
//
// The options of the connections are set once, on the listener, from which the
// kernel copies them: TCP keep-alive, which finds clients that went without a
// word behind a tunnel that is silent for long, and a bound on what is kept for
// clients that do not read.
func Listen(ctx context.Context, address string, shared bool) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: control(shared)}
	lc.SetMultipathTCP(false) // its sockets do not hand all options down
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return cheap(l)
}
