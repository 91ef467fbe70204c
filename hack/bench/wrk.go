package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load is what wrk says of a run.
type load struct {
	requests     int
	elapsed      time.Duration
	p50, p99     time.Duration
	socketErrors int
	failures     int // answers with a status that is neither 2xx nor 3xx
}

// runWrk loads a server as the scenario says.
func (b *bench) runWrk(ctx context.Context, sc scenario, addr string, duration time.Duration) (load, error) {
	args := []string{
		"-c", formatCPUs(b.cpus.load), b.wrk, "--latency", "--timeout", "5s",
		"-t", fmt.Sprint(min(len(b.cpus.load), sc.conns)), "-c", fmt.Sprint(sc.conns),
		"-d", fmt.Sprintf("%ds", int(duration.Seconds())),
	}
	if sc.header != "" {
		args = append(args, "-H", sc.header)
	}
	if sc.script != "" {
		file := filepath.Join(b.dir, sc.name+".lua")
		if err := os.WriteFile(file, []byte(sc.script), 0o644); err != nil {
			return load{}, err
		}
		args = append(args, "-s", file)
	}
	cmd := exec.CommandContext(ctx, b.taskset, append(args, "http://"+addr+sc.path)...)
	cmd.SysProcAttr = ownGroup()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return load{}, fmt.Errorf("wrk: %w\n%s", err, out.Bytes())
	}
	l, err := parseWrk(out.String())
	if err == nil && l.failures > 0 {
		err = fmt.Errorf("%d of %d answers had a status of an error", l.failures, l.requests)
	}
	if err != nil {
		return l, fmt.Errorf("%w; wrk said:\n%s", err, out.Bytes())
	}
	return l, nil
}

var (
	wrkTotal    = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([\d.]+\w+),`)
	wrkQuantile = regexp.MustCompile(`(?m)^\s*(50|99)%\s+([\d.]+\w+)\s*$`)
	wrkErrors   = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkFailures = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// parseWrk reads what wrk 4 prints with --latency.
func parseWrk(out string) (l load, err error) {
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return l, fmt.Errorf("no total in the output of wrk")
	}
	if l.requests, err = strconv.Atoi(total[1]); err != nil {
		return l, err
	}
	if l.elapsed, err = parseWrkTime(total[2]); err != nil {
		return l, err
	}
	if l.requests == 0 || l.elapsed <= 0 {
		return l, fmt.Errorf("no request was answered")
	}
	quantiles := 0
	for _, q := range wrkQuantile.FindAllStringSubmatch(out, -1) {
		t, err := parseWrkTime(q[2])
		if err != nil {
			return l, err
		}
		quantiles++
		if q[1] == "50" {
			l.p50 = t
		} else {
			l.p99 = t
		}
	}
	if quantiles != 2 {
		return l, fmt.Errorf("no percentiles in the output of wrk")
	}
	if m := wrkErrors.FindStringSubmatch(out); m != nil {
		for _, n := range m[1:] {
			count, err := strconv.Atoi(n)
			if err != nil {
				return l, err
			}
			l.socketErrors += count
		}
	}
	if m := wrkFailures.FindStringSubmatch(out); m != nil {
		if l.failures, err = strconv.Atoi(m[1]); err != nil {
			return l, err
		}
	}
	return l, nil
}

// parseWrkTime reads a time with a unit of wrk: us, ms, s, m or h.
func parseWrkTime(s string) (time.Duration, error) {
	number := strings.TrimRight(s, "ushm")
	units := map[string]time.Duration{"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour}
	unit, ok := units[s[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok {
		return 0, fmt.Errorf("%q in the output of wrk is no time", s)
	}
	return time.Duration(n * float64(unit)), nil
}
