package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/config/crd"
)

// chartDir is the chart, from the root of the repository.
var chartDir = filepath.Join("charts", "ferrum-proxy")

func main() {
	to := "."
	if len(os.Args) > 1 {
		to = os.Args[1]
	}
	if err := generate(".", to); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// generate reads the repository at root and writes below to.
func generate(root, to string) error {
	values, err := os.ReadFile(filepath.Join(root, chartDir, "values.yaml"))
	if err != nil {
		return err
	}
	readme, err := writeReadme(values)
	if err != nil {
		return fmt.Errorf("values.yaml: %w", err)
	}
	if err := write(filepath.Join(to, chartDir, "README.md"), readme); err != nil {
		return err
	}
	alerts, err := os.ReadFile(filepath.Join(root, chartDir, "files", "alerts.yaml"))
	if err != nil {
		return err
	}
	rule, err := writeRule(string(alerts))
	if err != nil {
		return fmt.Errorf("alerts.yaml: %w", err)
	}
	if err := write(filepath.Join(to, "config", "alerts", "prometheus_rule.yaml"), rule); err != nil {
		return err
	}
	dashboard, err := os.ReadFile(filepath.Join(root, chartDir, "files", "dashboard.json"))
	if err != nil {
		return err
	}
	if err := write(filepath.Join(to, "config", "grafana", "dashboard.yaml"), []byte(dashboardHead+indented(string(dashboard), "    "))); err != nil {
		return err
	}
	files, err := fs.Glob(crd.FS, "bases/*.yaml")
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := fs.ReadFile(crd.FS, f)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(to, chartDir, "files", "crds", filepath.Base(f)), data); err != nil {
			return err
		}
	}
	return nil
}

// ruleHead is what the PrometheusRule of config/ has around the groups of alerts.
const ruleHead = `# Made by "make generate" from charts/ferrum-proxy/files/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ferrum
  namespace: ferrum-system
  labels:
    app.kubernetes.io/name: ferrum
spec:
`

// writeRule returns the PrometheusRule of a file of alerts, line for line, without
// the comment before its groups.
func writeRule(alerts string) ([]byte, error) {
	_, groups, ok := strings.Cut("\n"+alerts, "\ngroups:\n")
	if !ok {
		return nil, errors.New("it has no groups")
	}
	return []byte(ruleHead + "  groups:\n" + indented(groups, "  ")), nil
}

// dashboardHead is what the dashboard's ConfigMap of config/ has before the dashboard.
const dashboardHead = `# Made by "make generate" from charts/ferrum-proxy/files/dashboard.json.
apiVersion: v1
kind: ConfigMap
metadata:
  name: ferrum-dashboard
  namespace: ferrum-system
  labels:
    app.kubernetes.io/name: ferrum
    grafana_dashboard: "1"
data:
  ferrum-proxy.json: |
`

// indented returns a text with each line that is not empty moved to the right.
func indented(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(by)
		}
		b.WriteString(line)
	}
	return b.String()
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
