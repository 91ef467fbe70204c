package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run found; result.json.
type report struct {
	Time       time.Time `json:"time"`
	Machine    string    `json:"machine"`
	ProxyCPUs  string    `json:"proxy_cpus"`
	LoadCPUs   string    `json:"load_cpus"`
	Backend    string    `json:"backend"`
	Rounds     int       `json:"rounds"`
	Duration   string    `json:"duration"`
	LoadBefore float64   `json:"load_average_before"`
	LoadAfter  float64   `json:"load_average_after"`
	Scenarios  []result  `json:"scenarios"`
}

// result is what a scenario gave.
type result struct {
	Name        string   `json:"name"`
	About       string   `json:"about"`
	Connections int      `json:"connections"`
	Compare     metric   `json:"compared_by"`
	Rows        []row    `json:"proxies"`
	Ratios      []ratio  `json:"ratios"`
	Bound       *bounded `json:"bound,omitempty"`
}

// row is a proxy in a scenario.
type row struct {
	Proxy   string   `json:"proxy"`
	Version string   `json:"version"`
	Median  sample   `json:"median"` // each figure by itself
	Rounds  []sample `json:"rounds"`
}

// ratio compares a figure of two proxies.
type ratio struct {
	Of     string    `json:"of"`
	To     string    `json:"to"`
	Median float64   `json:"median"`
	Rounds []float64 `json:"rounds"` // of the two measurements of a round
	judged
}

// bounded compares a figure of ferrum, or its ratio to the one of another
// scenario, with what it may be.
type bounded struct {
	Over   string  `json:"over,omitempty"`
	Median float64 `json:"median"`
	judged
}

// judged is what a figure may be at most, and whether it is: "met" or "missed".
// Without a target it is zero.
type judged struct {
	Target  float64 `json:"target,omitempty"`
	Verdict string  `json:"verdict,omitempty"`
}

func judge(value, target float64) judged {
	if target == 0 {
		return judged{}
	}
	return judged{Target: target, Verdict: onOff(value <= target, "met", "missed")}
}

// newResult computes medians and ratios.
func newResult(sc scenario, rows []row) result {
	r := result{Name: sc.name, About: sc.about, Connections: sc.conns, Compare: sc.compare, Rows: rows}
	for i := range rows {
		rows[i].Median = medians(rows[i].Rounds)
	}
	of, others := 0, rows[1:]
	if sc.swaps {
		of, others = 1, rows[:1]
	}
	for _, other := range others {
		q := ratio{Of: rows[of].Proxy, To: other.Proxy}
		for round, s := range rows[of].Rounds {
			q.Rounds = append(q.Rounds, divide(s.of(sc.compare), other.Rounds[round].of(sc.compare)))
		}
		q.Median = median(q.Rounds)
		q.judged = judge(q.Median, sc.most[other.Proxy])
		r.Ratios = append(r.Ratios, q)
	}
	if sc.atMost > 0 && sc.over == "" {
		value := rows[of].Median.of(sc.compare)
		r.Bound = &bounded{Median: value, judged: judge(value, sc.atMost)}
	}
	return r
}

// boundOver compares ferrum with itself in a scenario before, if that ran.
func (r *result) boundOver(sc scenario, before []result) {
	for _, other := range before {
		if other.Name == sc.over {
			value := divide(r.Rows[0].Median.of(sc.compare), other.Rows[0].Median.of(sc.compare))
			r.Bound = &bounded{Over: sc.over, Median: value, judged: judge(value, sc.atMost)}
		}
	}
}

// divide is a ratio that JSON can hold: 0 says that there is none.
func divide(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// median is the middle value, or the mean of the two; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medians takes the median of every figure by itself.
func medians(rounds []sample) (m sample) {
	for i, field := range m.fields() {
		values := make([]float64, len(rounds))
		for k := range rounds {
			values[k] = *rounds[k].fields()[i]
		}
		*field = median(values)
	}
	return m
}

// noisy is the share of the proxy's CPUs that others may take before the figures
// are called doubtful.
const noisy = 0.05

// table is the result for a terminal.
func (r result) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s, %d connections\n", r.Name, r.About, r.Connections)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	extra := ""
	if r.Compare == idleMemory {
		extra = "KiB/idle\t"
	}
	fmt.Fprintf(w, "  proxy\treq/s\tCPU us/req\tp50 ms\tp99 ms\tRSS MiB\tCPU used\t%s%s\ttarget\t\n", extra, r.ratioHeading())
	for _, row := range r.Rows {
		m := row.Median
		fmt.Fprintf(w, "  %s\t%.0f\t%.1f\t%.2f\t%.2f\t%.1f\t%.0f %%\t", strings.TrimSpace(row.Proxy+" "+row.Version), m.Rate, m.CPU, m.P50, m.P99, m.RSS, 100*m.Busy)
		if extra != "" {
			fmt.Fprintf(w, "%.2f\t", m.IdleMemory)
		}
		fmt.Fprintf(w, "%s\t\n", r.verdict(row.Proxy))
	}
	_ = w.Flush() // to memory
	if b := r.Bound; b != nil && b.Over != "" {
		fmt.Fprintf(&out, "  %s: %.2f times what %s costs, %s\n", ferrumName, b.Median, b.Over, b.judged)
	}
	for _, row := range r.Rows {
		out.WriteString(row.remarks())
	}
	return out.String()
}

// ratioHeading is the head of the column of ratios.
func (r result) ratioHeading() string {
	if len(r.Ratios) == 0 {
		return "ratio"
	}
	what := map[metric]string{cpuTime: "CPU", p99: "p99", idleMemory: "KiB"}[r.Compare]
	return r.Ratios[0].Of + "/it by " + what
}

// verdict is the ratio to a proxy, and the target.
func (r result) verdict(proxy string) string {
	for _, q := range r.Ratios {
		if q.To == proxy {
			return fmt.Sprintf("%.2f\t%s", q.Median, q.judged)
		}
	}
	if r.Bound != nil && r.Bound.Over == "" && proxy == ferrumName {
		return "\t" + r.Bound.judged.String()
	}
	return "\t"
}

// String is the target and the verdict.
func (j judged) String() string {
	if j.Target == 0 {
		return ""
	}
	return fmt.Sprintf("<= %.2f %s", j.Target, onOff(j.Verdict == "met", "met", "MISSED"))
}

// remarks are what a reader should know before believing a row.
func (r row) remarks() (text string) {
	m := r.Median
	if m.Others > noisy {
		text += fmt.Sprintf("  %s: other processes took %.0f %% of the proxy's CPUs: measure again when the machine is quiet\n", r.Proxy, 100*m.Others)
	}
	if m.Errors > 0 {
		text += fmt.Sprintf("  %s: %.0f socket errors\n", r.Proxy, m.Errors)
	}
	if m.Swaps > 0 {
		text += fmt.Sprintf("  %s: %.0f tables swapped in per measurement\n", r.Proxy, m.Swaps)
	}
	return text
}

func (b *bench) newReport() *report {
	return &report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: machine(), Backend: b.backendName,
		ProxyCPUs: formatCPUs(b.cpus.proxy), LoadCPUs: formatCPUs(b.cpus.load),
		Rounds: b.o.rounds, Duration: b.o.duration.String(), LoadBefore: loadAverage(),
	}
}

// heading says what was measured where.
func (r *report) heading() string {
	return fmt.Sprintf("%s; proxy on CPU %s, load and backend (%s) on CPU %s\nmedians of %d rounds of %s; load average at the start %.2f",
		r.Machine, r.ProxyCPUs, r.Backend, r.LoadCPUs, r.Rounds, r.Duration, r.LoadBefore)
}

// machine names processor and kernel.
func machine() string {
	model := runtime.GOARCH
	info, _ := os.ReadFile("/proc/cpuinfo") // the architecture says enough
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // as above
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}

// write writes result.json and cpu.svg.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{"result.json": append(data, '\n'), "cpu.svg": []byte(r.chart())}
	for _, name := range []string{"result.json", "cpu.svg"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}
