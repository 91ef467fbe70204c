//go:build cluster

package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// monitoring is a Prometheus for the operator, which takes all that is labeled
// release=lab.
const monitoring = `
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: monitoring}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus}
rules:
- {apiGroups: [""], resources: [services, pods, endpoints], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: prometheus}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: monitoring}]
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: lab, namespace: monitoring}
spec:
  replicas: 1
  version: v3.16.0
  image: lab.local/prometheus:1
  serviceAccountName: prometheus
  serviceDiscoveryRole: EndpointSlice
  scrapeInterval: 2s
  evaluationInterval: 2s
  serviceMonitorSelector: {matchLabels: {release: lab}}
  serviceMonitorNamespaceSelector: {}
  podMonitorSelector: {matchLabels: {release: lab}}
  podMonitorNamespaceSelector: {}
  ruleSelector: {matchLabels: {release: lab}}
  ruleNamespaceSelector: {}
  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 2000}
  resources: {requests: {memory: 64Mi}}
`

func TestThePrometheusOperatorTakesWhatTheChartOffersIt(t *testing.T) {
	kubectl(t, "create", "--validate=false", "-f", os.Getenv("OPERATOR_CRDS"))
	startOperator(t)
	apply(t, shop+backend("web", 2)+backend("api", 1))
	must(t, "helm", append([]string{"install", "--namespace", namespace, "--create-namespace", "ferrum"},
		values("--values", filepath.Join("hack", "e2e", "cluster", "testdata", "monitored.yaml"))...)...)
	apply(t, route("api"))
	eventually(t, "the operator's kinds are served", func() error { _, err := command(monitoring, "kubectl", "apply", "-f", "-"); return err })
	answers(t, host, "/", 200, "web-")
	l := startLoad(http.MethodPost)

	p := prometheus{address: prometheusAddress(t)}
	eventually(t, "both monitors' targets are up", func() error {
		byJob := make(map[string]int)
		for _, s := range p.query(t, `up{namespace="`+namespace+`"} == 1`) {
			byJob[s.Metric["job"]]++
		}
		if len(byJob) != 2 || byJob["ferrum-ferrum-proxy-admin"] != replicas || byJob[namespace+"/ferrum-ferrum-proxy"] != replicas {
			return fmt.Errorf("up: %v", byJob)
		}
		return nil
	})
	for _, s := range p.query(t, `ferrum_requests_total{route="shop", code_class="2xx"}`) {
		if s.Metric["namespace"] != "shop" || s.Metric["exported_namespace"] != "" {
			t.Errorf("the route's namespace is lost: %v", s.Metric)
		}
	}
	p.hasTheAlerts(t)
	p.answersTheDashboard(t)
	l.mustLoseNothing(t, "load while scraped")
}

// startOperator runs the operator on the node.
func startOperator(t *testing.T) {
	t.Helper()
	out, err := os.Create(filepath.Join(os.Getenv("RUN"), "log", "prometheus-operator.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus-operator", // finds the cluster by KUBECONFIG
		"--prometheus-config-reloader=lab.local/config-reloader:1", "--web.listen-address=127.0.0.1:8085")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// prometheusAddress waits for the Pod that the operator makes.
func prometheusAddress(t *testing.T) (address string) {
	t.Helper()
	took := eventually(t, "Prometheus is ready", func() error {
		if _, err := command("", "kubectl", "-n", "monitoring", "wait", "--for=condition=Ready", "pod/prometheus-lab-0", "--timeout=1s"); err != nil {
			return err
		}
		out, err := command("", "kubectl", "-n", "monitoring", "get", "pod", "prometheus-lab-0", "-o", "jsonpath={.status.podIP}")
		address = "http://" + strings.TrimSpace(out) + ":9090"
		return err
	})
	t.Logf("Prometheus was ready after %s", took.Round(time.Second))
	return address
}

type prometheus struct{ address string }

type series struct {
	Metric map[string]string
	Value  [2]any
}

// get decodes the data of an answer of Prometheus' API.
func (p prometheus) get(path string, query url.Values, data any) error {
	res, err := http.Get(p.address + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

func (p prometheus) query(t *testing.T, expr string) []series {
	t.Helper()
	var data struct{ Result []series }
	if err := p.get("query", url.Values{"query": {expr}}, &data); err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return data.Result
}

// hasTheAlerts waits until all alerts of the chart were evaluated, and expects
// that none fires.
func (p prometheus) hasTheAlerts(t *testing.T) {
	t.Helper()
	eventually(t, "the alerts are loaded and evaluated", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, State, LastError string }
			}
		}
		if err := p.get("rules", nil, &data); err != nil {
			return err
		}
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if !strings.HasPrefix(r.Name, "Ferrum") {
					continue
				}
				n++
				if r.Health != "ok" || r.State != "inactive" {
					return fmt.Errorf("%s is %s and %s: %s", r.Name, r.Health, r.State, r.LastError)
				}
			}
		}
		if n < 10 {
			return fmt.Errorf("%d alerts", n)
		}
		return nil
	})
}

// answersTheDashboard asks what the panels ask.
func (p prometheus) answersTheDashboard(t *testing.T) {
	t.Helper()
	text := kubectl(t, "-n", namespace, "get", "configmap", "ferrum-ferrum-proxy-dashboard", "-o", `jsonpath={.data.ferrum-proxy\.json}`)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$namespace", ".*", "$route", ".*")
	// There are no such events in a healthy installation, and a counter that has
	// no labels yet has no series.
	mayBeEmpty := []string{"ferrum_request_failures_total", "ferrum_controller_watch_errors_total", "ferrum_access_log_dropped_total", "ferrum_connections_refused_total",
		"ferrum_upstream_retries_total", "ferrum_upstream_retries_refused_total"}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			expr := variables.Replace(target.Expr)
			eventually(t, "panel "+panel.Title+" shows something", func() error {
				if len(p.query(t, expr)) > 0 {
					return nil
				}
				for _, name := range mayBeEmpty {
					if strings.Contains(expr, name) {
						return nil
					}
				}
				return fmt.Errorf("nothing for %s", expr)
			})
		}
	}
}
