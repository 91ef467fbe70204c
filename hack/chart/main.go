package main

import (
	"bytes"
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
	if err := write(filepath.Join(to, "config", "prometheus", "prometheus_rule.yaml"), rule); err != nil {
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
	var b bytes.Buffer
	b.WriteString(ruleHead + "  groups:\n")
	for line := range strings.Lines(groups) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.Bytes(), nil
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
