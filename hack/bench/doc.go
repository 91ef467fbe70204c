// Command bench compares this proxy with others: `make bench`. On loopback it
// starts a backend, the real ferrum binary with everything at its default, and
// each peer that it finds, one after the other in every round, loads them with
// wrk and prints what a request cost: CPU time of the proxy, requests per
// second, percentiles of latency, memory, and the ratio to each peer. The same
// goes to a JSON file, and a bar chart to an SVG. docs/benchmarking.md says how
// to read it.
//
// It owns the processes that it starts (each in a process group of its own,
// which ends with this process at the latest), their configuration in a
// temporary directory, and the ports it picks on 127.0.0.1. It knows the proxies
// only by their command lines, configuration files and ports; tables and their
// swaps concern it where a scenario edits a manifest under load. Linux only: it
// reads /proc and pins with taskset.
package main
