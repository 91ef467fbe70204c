package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// placement says which CPUs the proxy and the load (wrk and backends) run on.
type placement struct {
	proxy, load []int
}

// place chooses CPUs: for the proxy the last one that this process may use, and
// the others for the load, where the lists do not say otherwise.
func place(proxyList, loadList string) (p placement, err error) {
	allowed, err := allowedCPUs()
	if err != nil {
		return p, err
	}
	if p.proxy, err = parseCPUs(proxyList); err != nil {
		return p, fmt.Errorf("--proxy-cpus: %w", err)
	}
	if p.load, err = parseCPUs(loadList); err != nil {
		return p, fmt.Errorf("--load-cpus: %w", err)
	}
	if len(p.proxy) == 0 {
		p.proxy = allowed[len(allowed)-1:]
	}
	if len(p.load) == 0 {
		for _, c := range allowed {
			if !slices.Contains(p.proxy, c) {
				p.load = append(p.load, c)
			}
		}
	}
	if len(p.load) == 0 {
		return p, fmt.Errorf("no CPU is left for the load beside %s of the proxy: at least two are needed", formatCPUs(p.proxy))
	}
	for _, c := range p.load {
		if slices.Contains(p.proxy, c) {
			return p, fmt.Errorf("CPU %d is in both --proxy-cpus and --load-cpus", c)
		}
	}
	return p, nil
}

// allowedCPUs are those that this process may run on.
func allowedCPUs() ([]int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return parseCPUs(strings.TrimSpace(list))
		}
	}
	return nil, fmt.Errorf("/proc/self/status has no Cpus_allowed_list")
}

// parseCPUs reads a list such as "0,2-3"; "" is none.
func parseCPUs(list string) (cpus []int, err error) {
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || to < from || to > 1<<16 {
			return nil, fmt.Errorf("%q is no list of CPUs such as 0,2-3", list)
		}
		for c := from; c <= to; c++ {
			cpus = append(cpus, c)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

// formatCPUs is the list for taskset.
func formatCPUs(cpus []int) string {
	words := make([]string, len(cpus))
	for i, c := range cpus {
		words[i] = strconv.Itoa(c)
	}
	return strings.Join(words, ",")
}
