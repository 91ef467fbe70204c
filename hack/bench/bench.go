package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// bench is one run of the command.
type bench struct {
	o       options
	cpus    placement
	wrk     string
	taskset string
	dir     string // temporary; everything the processes write is in it
	started int    // processes, for the names of their directories
	port    int    // picked last

	proxies  []found
	backends []*process
	// small are the addresses of the two backends, upload is the one that takes
	// request bodies.
	small       []string
	upload      string
	unavailable string // of the backend that answers 503
	backendName string
}

// found is a proxy that is there.
type found struct {
	proxy
	binary string
}

// newBench looks for all that is needed, and builds what is built.
func newBench(ctx context.Context, o options) (b *bench, err error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("this reads /proc and pins with taskset: it needs Linux")
	}
	if _, err := os.Stat(filepath.Join("cmd", "ferrum")); err != nil {
		return nil, errors.New("cmd/ferrum is not here: run this at the top of the repository (make bench, or go run ./hack/bench)")
	}
	if o.rounds < 1 || o.idle < 1 || o.duration < time.Second || o.duration%time.Second != 0 || o.warmup%time.Second != 0 {
		return nil, errors.New("--rounds and --idle are at least 1, --duration and --warmup whole seconds")
	}
	b = &bench{o: o, port: firstPort}
	if b.wrk, err = look(o.wrk); err != nil {
		return nil, fmt.Errorf("wrk, the load generator, is missing (Debian: apt-get install wrk): %w", err)
	}
	if b.taskset, err = look("taskset"); err != nil {
		return nil, fmt.Errorf("taskset, which pins processes to CPUs, is missing (Debian: util-linux): %w", err)
	}
	if b.cpus, err = place(o.proxyCPUs, o.loadCPUs); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "ferrum-bench-"); err != nil {
		return nil, err
	}
	if err := b.findProxies(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// close stops what still runs and removes what was written.
func (b *bench) close() {
	for _, p := range b.backends {
		p.stop()
	}
	_ = os.RemoveAll(b.dir) // a temporary directory: the system clears it, too
}

// findProxies finds ferrum and the peers that were asked for, or all there are.
func (b *bench) findProxies(ctx context.Context) error {
	wanted, err := choose("peer", b.o.peers, proxies())
	if err != nil {
		return err
	}
	for _, p := range proxies() {
		if p.name != ferrumName && !slices.ContainsFunc(wanted, func(w proxy) bool { return w.name == p.name }) {
			continue
		}
		f := found{proxy: p, binary: *b.o.binaries[p.name]}
		switch {
		case f.binary != "":
			f.binary, err = look(f.binary)
		case p.source != "":
			f.binary = filepath.Join(b.dir, p.name)
			err = build(ctx, f.binary, p.source)
		case p.command != "":
			f.binary, err = look(p.command)
			if err != nil && b.o.peers == "" {
				fmt.Printf("%s is not installed: left out\n", p.name)
				continue
			}
		case b.o.peers == "":
			continue // only by its flag
		default:
			err = fmt.Errorf("say where it is: --%s PATH", p.name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if f.binary, err = filepath.Abs(f.binary); err != nil {
			return err
		}
		if p.versionArgs != nil {
			f.version = versionOf(ctx, f.binary, p.versionArgs)
		}
		b.proxies = append(b.proxies, f)
	}
	return nil
}

// build compiles a main package of this module: with symbols, for profilers, and
// with the settings of every day, whose results are in the build cache.
func build(ctx context.Context, binary, source string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", source, err, out)
	}
	return nil
}

// look finds a command, in the places of servers, too, which are not in the
// PATH of everyone.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || filepath.Base(name) != name {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// firstPort is where the search for free ports begins: below the ports that
// Linux gives to clients (ip_local_port_range), which a client of a load test
// might have just taken.
const firstPort = 21000

// listenAddress returns an address on loopback that is free and was not used
// before in this run.
func (b *bench) listenAddress() (string, error) {
	for b.port < 32000 {
		b.port++
		addr := fmt.Sprintf("127.0.0.1:%d", b.port)
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no port is free above %d", firstPort)
}

// newDir makes a directory for a process.
func (b *bench) newDir(name string) (string, error) {
	b.started++
	dir := filepath.Join(b.dir, fmt.Sprintf("%03d-%s", b.started, name))
	return dir, os.Mkdir(dir, 0o755)
}
