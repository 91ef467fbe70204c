package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// sample is one measurement of one proxy, or the medians of several.
type sample struct {
	Requests   float64 `json:"requests"`
	Rate       float64 `json:"requests_per_second"`
	CPU        float64 `json:"cpu_us_per_request"` // user and system time of the proxy's processes
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	RSS        float64 `json:"rss_mib"`         // at the end
	Busy       float64 `json:"proxy_cpu_share"` // of its CPUs that the proxy used, 0 to 1
	Others     float64 `json:"other_cpu_share"` // of these that something else used: noise
	Errors     float64 `json:"socket_errors"`
	IdleMemory float64 `json:"kib_per_idle_connection,omitempty"`
	Swaps      float64 `json:"swaps,omitempty"`
}

// fields are all figures of a sample.
func (s *sample) fields() []*float64 {
	return []*float64{&s.Requests, &s.Rate, &s.CPU, &s.P50, &s.P99, &s.RSS, &s.Busy, &s.Others, &s.Errors, &s.IdleMemory, &s.Swaps}
}

// of returns the figure that a metric names.
func (s sample) of(m metric) float64 {
	switch m {
	case p99:
		return s.P99
	case idleMemory:
		return s.IdleMemory
	default:
		return s.CPU
	}
}

// contender is a proxy in a scenario.
type contender struct {
	found
	swapped bool
}

func (c contender) title() string {
	if c.swapped {
		return swappedName
	}
	return c.name
}

// contenders are those that a scenario compares.
func (b *bench) contenders(sc scenario) (all []contender) {
	if sc.swaps {
		return []contender{{found: b.proxies[0]}, {found: b.proxies[0], swapped: true}}
	}
	for _, p := range b.proxies {
		if !sc.retries || p.retries {
			all = append(all, contender{found: p})
		}
	}
	return all
}

// runScenario measures every contender once in each round.
func (b *bench) runScenario(ctx context.Context, sc scenario) (result, error) {
	if sc.idle {
		if err := raiseOpenFiles(uint64(b.jobOf(sc).OpenFiles())); err != nil {
			return result{}, fmt.Errorf("%d connections need %d open files: raise the hard limit (ulimit -Hn), or ask for fewer with --idle: %w",
				b.o.idle, b.jobOf(sc).OpenFiles(), err)
		}
	}
	all := b.contenders(sc)
	rows := make([]row, len(all))
	for round := range b.o.rounds {
		for i, c := range all {
			s, err := b.measure(ctx, sc, c)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", c.title(), err)
			}
			rows[i].Proxy, rows[i].Version = c.title(), c.version
			rows[i].Rounds = append(rows[i].Rounds, s)
			if b.o.verbose {
				fmt.Printf("%s, round %d, %s: %+v\n", sc.name, round+1, c.title(), s)
			}
		}
	}
	return newResult(sc, rows), nil
}

// jobOf is what a scenario asks of a proxy, without what is chosen at its start.
func (b *bench) jobOf(sc scenario) job {
	j := job{
		Backends: b.small, Workers: len(b.cpus.proxy), Clients: sc.conns,
		AccessLog: sc.accessLog, Retries: sc.retries, Routes: sc.routes, Root: os.Geteuid() == 0,
	}
	if sc.upload > 0 {
		j.Backends = []string{b.upload}
	}
	if sc.retries {
		j.Backends = []string{b.unavailable, b.small[0]}
	}
	if sc.idle {
		j.Clients += b.o.idle
	}
	return j
}

// startProxy starts a contender and waits until it serves the scenario.
func (b *bench) startProxy(ctx context.Context, sc scenario, c contender) (*process, job, error) {
	j := b.jobOf(sc)
	var err error
	if j.Dir, err = b.newDir(c.name); err != nil {
		return nil, j, err
	}
	if j.Listen, err = b.listenAddress(); err != nil {
		return nil, j, err
	}
	if j.Admin, err = b.listenAddress(); err != nil {
		return nil, j, err
	}
	if err := c.writeConfigs(j); err != nil {
		return nil, j, err
	}
	env := []string{fmt.Sprintf("GOMAXPROCS=%d", len(b.cpus.proxy))}
	p, err := b.start(c.name, j.Dir, b.cpus.proxy, env, c.binary, c.args(j)...)
	if err != nil {
		return nil, j, err
	}
	ready := probe{addr: j.Listen, host: sc.host, path: sc.path, upload: sc.upload, expect: sc.expect}
	if err := ready.wait(ctx, p); err != nil {
		p.stop()
		return nil, j, err
	}
	return p, j, nil
}

// measure runs one contender from its start to its end.
func (b *bench) measure(ctx context.Context, sc scenario, c contender) (s sample, err error) {
	p, j, err := b.startProxy(ctx, sc, c)
	if err != nil {
		return s, err
	}
	defer p.stop()
	if b.o.warmup >= time.Second {
		if _, err := b.runWrk(ctx, sc, j.Listen, b.o.warmup); err != nil {
			return s, err
		}
	}
	if sc.idle {
		before, idle, openErr := b.openBeside(ctx, j, p)
		defer idle.close()
		if openErr != nil {
			return s, openErr
		}
		defer func() {
			s.IdleMemory = (s.RSS*(1<<20) - float64(before)) / (1 << 10) / float64(b.o.idle)
			err = errors.Join(err, idle.check())
		}()
	}
	if c.swapped {
		before, countErr := appliedPlans(j.Admin)
		if countErr != nil {
			return s, countErr
		}
		stop := swapping(j.Dir)
		defer func() {
			after, countErr := appliedPlans(j.Admin)
			s.Swaps = float64(after - before)
			err = errors.Join(err, stop(), countErr)
		}()
	}
	s, err = b.sampleLoad(ctx, sc, j.Listen, p)
	return s, errors.Join(err, p.alive())
}

// openBeside opens the idle connections, and says what memory (bytes) the proxy
// had before.
func (b *bench) openBeside(ctx context.Context, j job, p *process) (before int64, idle *idlers, err error) {
	u, err := groupUsage(p.pid())
	if err != nil {
		return 0, &idlers{}, err
	}
	idle, err = openIdle(ctx, j.Listen, b.o.idle)
	return u.rss, idle, err
}

// sampleLoad loads a proxy and reads what it used meanwhile.
func (b *bench) sampleLoad(ctx context.Context, sc scenario, addr string, p *process) (s sample, err error) {
	before, err := groupUsage(p.pid())
	if err != nil {
		return s, err
	}
	busyBefore, err := busyTime(b.cpus.proxy)
	if err != nil {
		return s, err
	}
	from := time.Now()
	l, err := b.runWrk(ctx, sc, addr, b.o.duration)
	if err != nil {
		return s, errors.Join(err, p.said())
	}
	elapsed := time.Since(from)
	after, err := groupUsage(p.pid())
	if err != nil {
		return s, err
	}
	busyAfter, err := busyTime(b.cpus.proxy)
	if err != nil {
		return s, err
	}
	used := after.cpu - before.cpu
	there := elapsed.Seconds() * float64(len(b.cpus.proxy))
	return sample{
		Requests: float64(l.requests),
		Rate:     float64(l.requests) / l.elapsed.Seconds(),
		CPU:      used.Seconds() * 1e6 / float64(l.requests),
		P50:      l.p50.Seconds() * 1e3,
		P99:      l.p99.Seconds() * 1e3,
		RSS:      float64(after.rss) / (1 << 20),
		Busy:     used.Seconds() / there,
		Others:   max(0, (busyAfter-busyBefore-used).Seconds()/there),
		Errors:   float64(l.socketErrors),
	}, nil
}
