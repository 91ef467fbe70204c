package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is the unit of CPU time in /proc: USER_HZ, 100 on everything that Go
// runs on.
const tick = time.Second / 100

// usage is what the processes of a group have used.
type usage struct {
	cpu time.Duration // user and system, of living processes
	rss int64         // bytes; what processes share counts for each
}

// groupUsage adds up the living processes of a group.
func groupUsage(group int) (u usage, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	members := 0
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		s, err := parseStat(string(data))
		if err != nil {
			return u, fmt.Errorf("%s: %w", file, err)
		}
		if s.group != group {
			continue
		}
		members++
		u.cpu += s.cpu
		u.rss += s.rssPages * int64(os.Getpagesize())
	}
	if members == 0 {
		return u, errors.New("the process is gone")
	}
	return u, nil
}

// procStat is what is needed of /proc/PID/stat (proc(5)).
type procStat struct {
	group    int
	cpu      time.Duration
	rssPages int64
}

func parseStat(line string) (s procStat, err error) {
	// The second field is the command in parentheses, which may contain anything.
	_, rest, ok := cutLast(line, ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return s, errors.New("not as proc(5) says")
	}
	number := func(field int) int64 { // counted from 1, as in the manual
		n, e := strconv.ParseInt(fields[field-3], 10, 64)
		err = errors.Join(err, e)
		return n
	}
	s.group = int(number(5))
	s.cpu = time.Duration(number(14)+number(15)) * tick
	s.rssPages = number(24)
	return s, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// busyTime is how long CPUs did anything since the system started.
func busyTime(cpus []int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(data), cpus)
}

func parseBusy(stat string, cpus []int) (total time.Duration, err error) {
	for _, c := range cpus {
		_, after, ok := strings.Cut(stat, fmt.Sprintf("\ncpu%d ", c))
		line, _, _ := strings.Cut(after, "\n")
		fields := strings.Fields(line)
		if !ok || len(fields) < 8 {
			return 0, fmt.Errorf("/proc/stat does not know CPU %d", c)
		}
		for i, f := range fields[:8] {
			if i == 3 || i == 4 { // idle, iowait
				continue
			}
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/stat: %w", err)
			}
			total += time.Duration(n) * tick
		}
	}
	return total, nil
}

// loadAverage is the system's load over the last minute; 0 if it is unknown.
func loadAverage() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64) // 0 on error, as said
	return load
}
