package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// The formats of the access log.
const (
	AccessLogOff  = "off"
	AccessLogJSON = "json" // one JSON object a line
	AccessLogText = "text" // logfmt: key=value, quoted as in JSON where needed
)

// AccessLogConfig says which requests are logged, how, and where to. The zero
// value logs nothing.
type AccessLogConfig struct {
	// Format is one of the formats above; "" means AccessLogOff.
	Format string
	// Sample logs one of so many requests that went well, at random; 0 and 1
	// log all. A request that failed, or whose status is 500 or above, is
	// always logged.
	Sample int
	// Out is where the lines go, by one goroutine, in whole lines. A Write that
	// blocks costs lines, never requests.
	Out io.Writer
}

// Validate returns an error that says what is wrong with the configuration.
func (c AccessLogConfig) Validate() error {
	switch c.Format {
	case "", AccessLogOff:
		return nil
	case AccessLogJSON, AccessLogText:
	default:
		return fmt.Errorf("access log format %q is unknown: use %q, %q or %q",
			c.Format, AccessLogOff, AccessLogJSON, AccessLogText)
	}
	if c.Sample < 0 {
		return fmt.Errorf("access log sample %d is negative: use N to log one of N requests, or 1 to log all", c.Sample)
	}
	if c.Out == nil {
		return errors.New("access log has no output to write to")
	}
	return nil
}

func (c AccessLogConfig) enabled() bool { return c.Format != "" && c.Format != AccessLogOff }

// accessLog formats the lines of the requests that are to be logged.
type accessLog struct {
	json   bool
	sample atomic.Int64
	lines  sync.Pool // of *line
	queue  *lineQueue
}

func newAccessLog(cfg AccessLogConfig, log logr.Logger) *accessLog {
	l := &accessLog{
		json:  cfg.Format == AccessLogJSON,
		queue: newLineQueue(cfg.Out, log),
	}
	l.sample.Store(int64(max(cfg.Sample, 1)))
	l.lines.New = func() any { return &line{json: l.json, buf: make([]byte, 0, 1024)} }
	return l
}

func (l *accessLog) log(r *proxy.Record) {
	if !l.wants(r) {
		return
	}
	ln := l.lines.Get().(*line)
	l.queue.add(ln.format(r))
	l.lines.Put(ln)
}

// wants reports whether the request is to be logged. Sampling is random rather
// than every Nth, so that it does not fall into step with the traffic.
func (l *accessLog) wants(r *proxy.Record) bool {
	if r.Reason != proxy.ReasonOK || r.Status >= 500 {
		return true
	}
	n := l.sample.Load()
	return n == 1 || rand.Int64N(n) == 0
}

func (l *accessLog) close(ctx context.Context) error { return l.queue.close(ctx) }

// registerAccessLog exports what became of the lines.
func (t *Telemetry) registerAccessLog() {
	q := t.access.queue
	t.RegisterCounter("ferrum_access_log_lines_total", "Access log lines written.",
		func() float64 { return float64(q.written.Load()) })
	const dropped = "ferrum_access_log_dropped_total"
	const help = "Access log lines lost: \"full\" because the reader of the log did not keep up, \"error\" because writing failed, \"closed\" because the process was ending."
	t.RegisterCounter(dropped, help, func() float64 { return float64(q.full.Load()) }, Label{"reason", "full"})
	t.RegisterCounter(dropped, help, func() float64 { return float64(q.failed.Load()) }, Label{"reason", "error"})
	t.RegisterCounter(dropped, help, func() float64 { return float64(q.late.Load()) }, Label{"reason", "closed"})
}
