package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	rounds           int
	duration, warmup time.Duration
	scenarios, peers string // comma-separated; "" = all
	proxyCPUs        string // lists as taskset's; "" = chosen
	loadCPUs         string
	idle             int
	out              string
	binaries         map[string]*string // of the proxies, by name; "" = looked for
	wrk              string
	verbose          bool
}

func main() {
	// Children end with the thread that starts them (ownGroup), and all are
	// started from here: the main thread lasts as long as the process.
	runtime.LockOSThread()
	o := options{binaries: make(map[string]*string)}
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; each measures every proxy once")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "length of one measurement; whole seconds")
	flag.DurationVar(&o.warmup, "warmup", time.Second, "load before each measurement; whole seconds, 0 = none")
	flag.StringVar(&o.scenarios, "scenarios", "", "comma-separated; empty = all: "+strings.Join(names(scenarios()), ","))
	flag.StringVar(&o.peers, "peers", "", "comma-separated; empty = all that are found: "+strings.Join(names(proxies())[1:], ","))
	flag.StringVar(&o.proxyCPUs, "proxy-cpus", "", "CPUs of the proxy, such as 1 or 2-3; empty = the last one")
	flag.StringVar(&o.loadCPUs, "load-cpus", "", "CPUs of wrk and the backend; empty = all others")
	flag.IntVar(&o.idle, "idle", 10_000, "connections of idle_connections")
	flag.StringVar(&o.out, "out", "bin/bench", "directory for result.json and cpu.svg")
	flag.StringVar(&o.wrk, "wrk", "wrk", "wrk binary")
	flag.BoolVar(&o.verbose, "v", false, "print every measurement")
	for _, p := range proxies() {
		o.binaries[p.name] = flag.String(p.name, "", p.binaryHelp)
	}
	flag.Parse()

	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(ctx)
	go endWithParent(ctx, os.Getppid(), cancel)
	err := run(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // what it broke on the way does not matter
	}
	release()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// endWithParent ends the benchmark when the process that started it, `make` or
// `go run`, is gone: those die of a SIGTERM without passing it on.
func endWithParent(ctx context.Context, parent int, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
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

// run is the benchmark, from the look for tools to the files it writes.
func run(ctx context.Context, o options) error {
	chosen, err := choose("scenario", o.scenarios, scenarios())
	if err != nil {
		return err
	}
	fmt.Println("building ...")
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.startBackends(ctx); err != nil {
		return err
	}
	report := b.newReport()
	fmt.Println(report.heading())
	for _, sc := range chosen {
		var result result
		if result, err = b.runScenario(ctx, sc); err != nil {
			err = fmt.Errorf("%s: %w", sc.name, err)
			break
		}
		result.boundOver(sc, report.Scenarios)
		report.Scenarios = append(report.Scenarios, result)
		fmt.Print("\n" + result.table())
	}
	if len(report.Scenarios) == 0 {
		return err
	}
	report.LoadAfter = loadAverage()
	fmt.Printf("\nwriting %s\n", filepath.Join(o.out, "{result.json,cpu.svg}"))
	return errors.Join(err, report.write(o.out))
}

// named is a scenario or a proxy.
type named interface{ title() string }

func names[T named](all []T) (list []string) {
	for _, x := range all {
		list = append(list, x.title())
	}
	return list
}

// choose returns those of all that a comma-separated list names, in the order
// of all; an empty list names all of them.
func choose[T named](kind, list string, all []T) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	known := names(all)
	for _, w := range wanted {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("there is no %s %q; there are %s", kind, w, strings.Join(known, ", "))
		}
	}
	var chosen []T
	for _, x := range all {
		if slices.Contains(wanted, x.title()) {
			chosen = append(chosen, x)
		}
	}
	return chosen, nil
}
