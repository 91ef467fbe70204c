package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

func TestSourceKeepsRunningWhileTheDataPlaneDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string, 10)
		ctx, cancel := context.WithCancel(t.Context())
		dataPlane := func(ctx context.Context) error {
			<-ctx.Done()
			events <- "drain starts"
			time.Sleep(30 * time.Second) // requests in flight
			events <- "drained"
			return nil
		}
		source := func(ctx context.Context) error {
			time.Sleep(20 * time.Second)
			if ctx.Err() == nil {
				events <- "plan applied"
			}
			<-ctx.Done()
			events <- "source stopped"
			return ctx.Err()
		}
		time.AfterFunc(10*time.Second, cancel)
		if err := supervise(ctx, logr.Discard(), dataPlane, source); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"drain starts", "plan applied", "drained", "source stopped"} {
			if got := <-events; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestSourceThatFailsDrainsTheDataPlane(t *testing.T) {
	for _, sourceErr := range []error{errors.New("no kubeconfig"), nil} {
		synctest.Test(t, func(t *testing.T) {
			drained := false
			err := supervise(t.Context(), logr.Discard(),
				func(ctx context.Context) error { <-ctx.Done(); drained = true; return nil },
				func(context.Context) error { return sourceErr })
			if err == nil || sourceErr != nil && !errors.Is(err, sourceErr) {
				t.Errorf("got %v, want it to say %v", err, sourceErr)
			}
			if !drained {
				t.Error("the data plane was not drained")
			}
		})
	}
}

func TestDataPlaneThatFailsStopsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := errors.New("address in use")
		err := supervise(t.Context(), logr.Discard(),
			func(context.Context) error { return want },
			func(ctx context.Context) error { <-ctx.Done(); return nil })
		if !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDrainThatHadToCutIsAFailureOnceTheSourceHasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		want, stopped := errors.New("3 connections cut"), false
		err := supervise(ctx, logr.Discard(),
			func(ctx context.Context) error { <-ctx.Done(); return want },
			func(ctx context.Context) error { <-ctx.Done(); stopped = true; return errors.New("too late to matter") })
		if !errors.Is(err, want) || !stopped {
			t.Errorf("got %v, source stopped: %v", err, stopped)
		}
	})
}

func TestSourceThatDoesNotStopDoesNotHoldTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		start := time.Now()
		err := supervise(t.Context(), logr.Discard(),
			func(context.Context) error { return nil },
			func(context.Context) error { <-release; return nil })
		if err != nil || time.Since(start) != stopTimeout {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

// Signals are a matter of the whole process, so this test sends them to itself.
func TestFirstSignalEndsTheContextAndTheSecondExits(t *testing.T) {
	exits := make(chan int, 1)
	ctx, release := onSignals(t.Context(), logr.Discard(), func(code int) { exits <- code })
	defer release()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	select {
	case code := <-exits:
		t.Fatalf("exit %d after one signal", code)
	default:
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := <-exits; code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestReleaseEndsTheContextAndExitsNothing(t *testing.T) {
	ctx, release := onSignals(t.Context(), logr.Discard(), func(int) { t.Error("exit") })
	release()
	<-ctx.Done()
}
