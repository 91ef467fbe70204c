package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/manifests"
)

const (
	readyTimeout = 15 * time.Second
	stopTimeout  = 10 * time.Second
	pollInterval = 100 * time.Millisecond
	// orphanInterval is how often is looked whether the parent is still there.
	orphanInterval = time.Second
)

type options struct {
	samples     string
	http, admin string
	binary      string // of cmd/ferrum; "" = build it
	canary      string // address of a backend that the tour makes fail
}

func main() {
	// The proxy ends with the thread that starts it (ownGroup): the main thread
	// lasts as long as the process.
	runtime.LockOSThread()
	var o options
	flag.StringVar(&o.samples, "samples", filepath.Join("config", "samples"), "directory of manifests")
	flag.StringVar(&o.http, "http", "127.0.0.1:8080", "loopback address of the proxy")
	flag.StringVar(&o.admin, "admin", "127.0.0.1:9090", "loopback address of the admin port")
	flag.StringVar(&o.binary, "binary", "", "binary of cmd/ferrum to run; built if empty")
	flag.Parse()

	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(ctx)
	go endWithParent(ctx, os.Getppid(), cancel)
	err := run(ctx, o, os.Stdout, os.Stderr)
	release()
	if err != nil {
		fmt.Fprintf(os.Stderr, "run: %v\n", err)
		os.Exit(1)
	}
}

// endWithParent ends the playground when the process that started it, `make` or
// `go run`, is gone: those die of a SIGTERM without passing it on.
func endWithParent(ctx context.Context, parent int, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(orphanInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if os.Getppid() != parent {
				cancel(errors.New("parent process is gone"))
				return
			}
		}
	}
}

// run is the playground, from the check of the ports to the last clean-up. It
// returns nil when ctx ended.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if _, err := os.Stat(filepath.Join("cmd", "ferrum")); err != nil {
		return errors.New("cmd/ferrum is not here: run this at the top of the repository (make run, or go run ./hack/run)")
	}
	for _, addr := range []string{o.http, o.admin} {
		if err := checkFree(addr); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	stopBackends, err := startBackends(&o, failed)
	defer stopBackends()
	if err != nil {
		return err
	}

	if o.binary == "" {
		dir, err := os.MkdirTemp("", "ferrum-run-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.binary = filepath.Join(dir, "ferrum")
		fmt.Fprintln(stdout, "building cmd/ferrum ...")
		if err := build(ctx, o.binary, stderr); err != nil {
			return err
		}
	}
	return serve(ctx, o, failed, stdout, stderr)
}

// build builds the proxy. It returns nil, without a binary, when ctx ends.
func build(ctx context.Context, binary string, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/ferrum")
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("go build ./cmd/ferrum: %w", err)
	}
	return nil
}

// startBackends starts the servers that the samples name. stop is never nil.
func startBackends(o *options, failed chan<- error) (stop func(), err error) {
	var started []*backend
	stop = func() {
		for _, b := range started {
			b.close()
		}
	}
	snapshot, problems := manifests.Load(o.samples)
	for _, p := range problems {
		err = errors.Join(err, errors.New(p.String()))
	}
	if err != nil {
		return stop, err
	}
	backends, err := backendsOf(snapshot.EndpointSlices)
	if err != nil {
		return stop, err
	}
	for _, b := range backends {
		if err := b.start(failed); err != nil {
			return stop, err
		}
		started = append(started, b)
		if b.service == "api-canary" {
			o.canary = b.addr.String()
		}
	}
	return stop, nil
}

// child is the proxy's process. err is set when exited is closed.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

func startChild(o options, stdout, stderr io.Writer) (*child, error) {
	p := &child{exited: make(chan struct{})}
	p.cmd = exec.Command(o.binary, "run", "--manifests", o.samples, "--http", o.http, "--admin", o.admin,
		"--drain-delay", "0s", "--drain-timeout", "2s", "--log-format", "text", "--access-log", "text")
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// serve runs the proxy until ctx ends, and makes sure that it is gone.
func serve(ctx context.Context, o options, failed <-chan error, stdout, stderr io.Writer) error {
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	p, err := startChild(o, stdout, stderr)
	if err != nil {
		return err
	}
	err = waitReady(ctx, "http://"+o.admin+"/readyz", p.exited)
	if err == nil && ctx.Err() == nil {
		fmt.Fprintf(stdout, "\nthe proxy runs as process %d\n", p.cmd.Process.Pid)
		printTour(stdout, o)
		select {
		case <-ctx.Done():
		case err = <-failed:
		case <-p.exited:
			return fmt.Errorf("the proxy ended by itself: %w", cmp.Or(p.err, errors.New("exit code 0")))
		}
	}
	return errors.Join(err, p.stop())
}

// stop asks the proxy to drain, and kills it if it does not. It returns nil for
// one that ended well, or that had ended before.
func (p *child) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		<-p.exited
		return nil
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill() // it may have ended just now: exited tells
		<-p.exited
		return fmt.Errorf("the proxy did not stop within %s and was killed", stopTimeout)
	}
}

// checkFree fails, clearly, before minutes go into a build for a port that
// something else has.
func checkFree(addr string) error {
	if !loopback(addr) {
		return fmt.Errorf("%q is not a loopback address with a port, such as 127.0.0.1:8080", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return portError(addr, "the proxy", err)
	}
	return l.Close()
}
