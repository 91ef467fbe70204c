//go:build promtool

package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	// minutes of time that a case of promtool has. A fault is there from begins on,
	// and what fires is asked at the end.
	minutes = 30
	begins  = 10
)

// target is what a process has shown of itself: scraped once while all was well,
// and then again and again under a fault. Each scrape stands for a minute. Where
// there are no more, the fault goes on as it did between the last two, unless the
// process has ended.
type target struct {
	name    string // of the Pod
	scrapes []string
	ended   bool
}

// line is a series of a case of promtool.
type line struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

// series returns what Prometheus would have of t, under a name of a job.
func (t target) series(job string) (all []line) {
	counts := make(map[string]bool) // by name
	values := make(map[string][]string)
	for i, text := range t.scrapes {
		for l := range strings.Lines(text) {
			l = strings.TrimSpace(l)
			if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
				name, kind, _ := strings.Cut(name, " ")
				counts[name] = kind == "counter"
				for _, part := range []string{"_bucket", "_sum", "_count"} {
					counts[name+part] = kind == "histogram"
				}
			}
			at := strings.LastIndexByte(l, ' ')
			if at < 0 || !strings.HasPrefix(l, "ferrum_") && !strings.HasPrefix(l, "process_") {
				continue
			}
			if values[l[:at]] == nil {
				values[l[:at]] = make([]string, len(t.scrapes))
			}
			values[l[:at]][i] = l[at+1:]
		}
	}
	for _, id := range slices.Sorted(maps.Keys(values)) {
		name, labels, _ := strings.Cut(strings.TrimSuffix(id, "}"), "{")
		labels = strings.TrimSuffix(`job="`+job+`",pod="`+t.name+`",instance="`+t.name+`:9090",`+labels, ",")
		all = append(all, line{name + "{" + labels + "}", strings.Join(t.timeline(values[id], counts[name]), " ")})
	}
	return all
}

// timeline is a value for each minute, in promtool's notation, out of one for each
// scrape; "" is none.
func (t target) timeline(scraped []string, counts bool) []string {
	var all []string
	last := len(scraped) - 1
	value, _ := strconv.ParseFloat(scraped[last], 64)
	step := 0.0
	if before, err := strconv.ParseFloat(scraped[max(last-1, 0)], 64); err == nil && counts {
		step = value - before
	}
	for m := range minutes {
		i := max(0, m-begins+1)
		switch {
		case i <= last && scraped[i] == "":
			all = append(all, "_")
		case i <= last:
			v, _ := strconv.ParseFloat(scraped[i], 64)
			all = append(all, strconv.FormatFloat(v, 'f', -1, 64))
		case t.ended && i == last+1:
			all = append(all, "stale")
		case t.ended || scraped[last] == "":
			all = append(all, "_")
		default:
			all = append(all, strconv.FormatFloat(value+step*float64(i-last), 'f', -1, 64))
		}
	}
	return all
}

// question is an expression with the answer that it must have.
type question struct {
	Expr     string   `json:"expr"`
	EvalTime string   `json:"eval_time"`
	Samples  []answer `json:"exp_samples"`
}

type answer struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// promtoolCase is a test of `promtool test rules`.
type promtoolCase struct {
	Name      string     `json:"name"`
	Interval  string     `json:"interval"`
	Series    []line     `json:"input_series"`
	Questions []question `json:"promql_expr_test"`
}

// fires asks for exactly these alerts at a minute.
func fires(minute int, alerts ...string) question {
	q := question{Expr: `count by (alertname) (ALERTS{alertstate="firing"}) > bool 0`, EvalTime: strconv.Itoa(minute) + "m", Samples: []answer{}}
	for _, a := range alerts {
		q.Samples = append(q.Samples, answer{`{alertname="` + a + `"}`, 1})
	}
	return q
}

// shows asks whether an expression has a value that is a number.
func shows(expr string) question {
	return question{Expr: "count((" + expr + ") == (" + expr + ")) > bool 0", EvalTime: strconv.Itoa(minutes-1) + "m", Samples: []answer{{"{}", 1}}}
}

const chartFiles = "../../charts/ferrum-proxy/files"

// dashboard returns the expressions of the panels, for everything there is.
func dashboard(t *testing.T) (exprs []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chartFiles, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	everything := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$namespace", ".*", "$route", ".*")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			exprs = append(exprs, everything.Replace(target.Expr))
		}
	}
	if len(exprs) < 20 {
		t.Fatalf("only %d expressions", len(exprs))
	}
	return exprs
}

// promtool runs a case against the chart's alerts.
func promtool(t *testing.T, c promtoolCase) {
	t.Helper()
	rules, err := filepath.Abs(filepath.Join(chartFiles, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": []promtoolCase{c}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts_test.yaml") // JSON is YAML
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%s: promtool: %v\n%s", c.Name, err, out)
	}
}
