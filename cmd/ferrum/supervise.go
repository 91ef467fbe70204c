package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// stopTimeout bounds how long the source of plans may take to stop once the
// data plane has drained. Nothing of the users depends on it any more.
const stopTimeout = 5 * time.Second

// supervise runs a data plane and the source of its plans until ctx ends or one
// of them fails. The data plane's context ends first; the source keeps running
// while the data plane drains, so that endpoints go on moving, and is stopped
// after it. The error is that of the data plane, also of its drain; how the
// source stops after that is logged and is no failure of the process.
func supervise(ctx context.Context, log logr.Logger, dataPlane, source func(context.Context) error) error {
	dataCtx, drain := context.WithCancel(ctx)
	defer drain()
	sourceCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	dataDone, sourceDone := make(chan error, 1), make(chan error, 1)
	go func() { dataDone <- dataPlane(dataCtx) }()
	go func() { sourceDone <- source(sourceCtx) }()

	var dataErr, sourceErr error
	select {
	case dataErr = <-dataDone:
	case sourceErr = <-sourceDone:
		// Without a source the table would go stale unseen: drain, and let
		// whoever runs the process start it again.
		if sourceErr == nil {
			sourceErr = errors.New("it ended by itself")
		}
		sourceErr = fmt.Errorf("source of routes: %w", sourceErr)
		log.Error(sourceErr, "draining")
		drain()
		return errors.Join(sourceErr, <-dataDone)
	}

	stop()
	select {
	case sourceErr = <-sourceDone:
	case <-time.After(stopTimeout):
		log.Info("the source of routes did not stop in time", "timeout", stopTimeout.String())
	}
	if sourceErr != nil && !errors.Is(sourceErr, context.Canceled) {
		log.Error(sourceErr, "the source of routes failed while stopping")
	}
	return dataErr
}

// onSignals returns a context that the first SIGTERM or SIGINT ends. The second
// calls exit, at once, with exitFailed. release ends the watch for signals.
func onSignals(ctx context.Context, log logr.Logger, exit func(int)) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	released := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			log.Info("stopping; a second signal exits at once", "signal", s.String())
			cancel()
		case <-released:
			return
		}
		select {
		case s := <-signals:
			log.Info("exiting at once", "signal", s.String())
			exit(exitFailed)
		case <-released:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(released)
		cancel()
	}
}
