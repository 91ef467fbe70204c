// Package telemetry is what the data plane tells about itself: the Prometheus
// metrics and the access log. No other package of the data plane imports
// Prometheus.
//
// It owns the counters of every rule, the gauges of the table, and the one
// goroutine that writes the access log. What it exports is listed in
// docs/metrics.md, which a test holds to the code.
//
// # What survives a swap of tables
//
// The series of a rule hang on its name (namespace, route, rule) and live on as
// long as the rule does, whatever else of it changes. Series resolves a name
// when a plan is applied, Retain drops the names that are gone. A request that
// is still in flight on a dropped rule counts into series that nobody reads any
// more; a rule that comes back starts at zero.
//
// # Cost
//
// The labels of a request are resolved when the plan is applied, so Begin and
// End only add to counters: no lookup, no lock, no allocation, some 60 ns a
// request together. Our own counters stand behind our own collector, because
// the client library's histogram alone costs as much as all of a request's
// counters here, and its cells are shared by all cores. Ours are split into
// shards, one of which a core keeps to itself as far as sync.Pool does, and
// which exist only on the rules and cores that saw traffic.
//
// The duration histograms are classic ones of 15 buckets, not native ones: an
// observation costs about the same either way, but a Prometheus that scrapes
// native histograms drops the _bucket series that dashboards and alerts of
// today read. The price is paid in series, so these are bounded: a rule that
// never took a request has 4, a rule in use has 44, a failure adds one for each
// reason that occurred, and past Config.MaxRules all rules share one set named
// "_overflow".
//
// # The access log
//
// A request's line is formatted into a pooled buffer and appended to a queue in
// memory; one goroutine writes the queue in pieces of up to 64 KiB. If the
// reader of the log is stuck the queue fills up to 4 MiB and further lines are
// dropped and counted: a request never waits for its log line. Lines are pure
// ASCII and end in the only newline they contain, whatever the client sent.
//
// # Concurrency
//
// Every method of Telemetry may be called from any number of goroutines.
package telemetry
