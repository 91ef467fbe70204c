package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// exprs returns the expressions of the alerts and of the dashboard, by where they
// are.
func exprs(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, chart+"/files/alerts.yaml")), &alerts); err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if all["alert "+r.Alert] != "" {
				t.Errorf("two alerts are named %s", r.Alert)
			}
			all["alert "+r.Alert] = r.Expr
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, chart+"/files/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all["panel "+p.Title+": "+target.Expr] = target.Expr
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d expressions", len(all))
	}
	return all
}

var metricName = regexp.MustCompile(`\b(ferrum|process)_[a-z_]+`)

func TestAlertsAndDashboardAskOnlyForMetricsThatAreDocumented(t *testing.T) {
	var known []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(ferrum_[a-z_]+)` \\| (\\w+)").FindAllStringSubmatch(readFile(t, root+"/docs/metrics.md"), -1) {
		known = append(known, m[1])
		if m[2] == "histogram" {
			known = append(known, m[1]+"_bucket", m[1]+"_sum", m[1]+"_count")
		}
	}
	known = append(known, "process_cpu_seconds_total", "process_resident_memory_bytes")
	for where, expr := range exprs(t) {
		names := metricName.FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of ours", where)
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", where, name)
			}
		}
	}
}

// The cases themselves are run by promtool: make alerts. Those of cmd/ferrum are
// what the process shows under faults.
func TestEveryAlertHasACaseForPromtool(t *testing.T) {
	cases := readFile(t, root+"/cmd/ferrum/alerts_test.go") + readFile(t, root+"/cmd/ferrum/alertscluster_test.go")
	for where := range exprs(t) {
		name, isAlert := strings.CutPrefix(where, "alert ")
		if isAlert && !strings.Contains(cases, `"`+name+`"`) {
			t.Errorf("no fault in cmd/ferrum makes %s fire", name)
		}
	}
}
