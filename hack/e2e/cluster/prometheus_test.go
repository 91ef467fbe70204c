//go:build cluster

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
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
	servesKinds(t)
	startOperator(t)
	apply(t, shop+backend("web", 2)+backend("api", 1))
	must(t, "helm", append([]string{"install", "--namespace", namespace, "--create-namespace", "ferrum"},
		values("--values", filepath.Join("hack", "e2e", "cluster", "testdata", "monitored.yaml"))...)...)
	apply(t, route("api"))
	apply(t, monitoring)
	answers(t, door, host, "/", 200, "web-")
	answers(t, door, "nobody.example.com", "/", 404, "") // a failure for its panel
	l := startLoad(http.MethodPost)

	p := prometheus{address: prometheusAddress(t)}
	eventually(t, "both monitors' targets are up", func() error {
		up, err := p.query(`up{namespace="` + namespace + `"} == 1`)
		if err != nil {
			return err
		}
		byJob := make(map[string]int)
		for _, s := range up {
			byJob[s.Metric["job"]]++
		}
		if len(byJob) != 2 || byJob["ferrum-ferrum-proxy-admin"] != replicas || byJob[namespace+"/ferrum-ferrum-proxy"] != replicas {
			return fmt.Errorf("up: %v", byJob)
		}
		return nil
	})
	eventually(t, "requests are counted for the route's namespace", func() error {
		counted, err := p.query(`ferrum_requests_total{route="shop", code_class="2xx"}`)
		if err == nil && (len(counted) == 0 || counted[0].Metric["namespace"] != "shop" || counted[0].Metric["exported_namespace"] != "") {
			err = fmt.Errorf("%v", counted)
		}
		return err
	})
	p.hasTheAlerts(t)
	p.answersTheDashboard(t)
	l.mustLoseNothing(t, "load while scraped")
}

// servesKinds waits until discovery has the kinds of all CRDs. The operator looks
// once, when it starts, and does without what it does not find.
func servesKinds(t *testing.T) {
	t.Helper()
	crds := kubectl(t, "get", "crds", "-o", `jsonpath={range .items[*]}{.spec.group}/{.spec.versions[0].name} {.spec.names.plural}{"\n"}{end}`)
	for line := range strings.Lines(crds) {
		version, plural, _ := strings.Cut(strings.TrimSpace(line), " ")
		eventually(t, plural+" are served", func() error {
			out, err := command("", "kubectl", "get", "--raw", "/apis/"+version)
			if err == nil && !strings.Contains(out, `"name":"`+plural+`"`) {
				err = errors.New(out)
			}
			return err
		})
	}
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

func (p prometheus) query(expr string) ([]series, error) {
	var data struct{ Result []series }
	if err := p.get("query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	return data.Result, nil
}

// hasTheAlerts waits until each alert of the chart was evaluated, and expects
// that none fires.
func (p prometheus) hasTheAlerts(t *testing.T) {
	t.Helper()
	want := chartAlerts(t)
	eventually(t, "the alerts are loaded and evaluated", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, State, LastError string }
			}
		}
		if err := p.get("rules", nil, &data); err != nil {
			return err
		}
		var names []string
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" || r.State != "inactive" {
					return fmt.Errorf("%s is %s and %s: %s", r.Name, r.Health, r.State, r.LastError)
				}
				names = append(names, r.Name)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			return fmt.Errorf("loaded are %v, the chart has %v", names, want)
		}
		return nil
	})
	t.Logf("all %d alerts are loaded, and none fires", len(want))
}

// chartAlerts returns the names in the chart's file, sorted.
func chartAlerts(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("CHART"), "files", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	if len(names) == 0 {
		t.Fatal("the chart's file has no alerts")
	}
	slices.Sort(names)
	return names
}

// quiet are the metrics of which a healthy installation has no series, and why. A
// panel about one of them may be empty, as long as Prometheus knows no series of
// that name at all; every other panel has to show something.
var quiet = map[string]string{
	"ferrum_controller_watch_errors_total":  "its series begin with the first watch that fails",
	"ferrum_upstream_retries_total":         "its series begin with the first attempt that is followed by another",
	"ferrum_upstream_retries_refused_total": "its series begin with the first attempt that fails for good",
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
	asked := 0
	for name := range quiet {
		if !strings.Contains(text, name+"{") {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			asked++
			p.shows(t, panel.Title, variables.Replace(target.Expr))
		}
	}
	if asked == 0 {
		t.Error("the dashboard asks nothing")
	}
	t.Logf("all %d questions of %d panels are answered", asked, len(dashboard.Panels))
}

// shows waits until a panel shows something, or has a reason not to.
func (p prometheus) shows(t *testing.T, panel, expr string) {
	t.Helper()
	eventually(t, "panel "+panel+" shows something", func() error {
		if shown, err := p.query(expr); err != nil || len(shown) > 0 {
			return err
		}
		for name, why := range quiet {
			if !strings.Contains(expr, name+"{") {
				continue
			}
			known, err := p.query(name)
			if err != nil {
				return err
			}
			if len(known) == 0 {
				t.Logf("panel %s is empty: %s", panel, why)
				return nil
			}
		}
		return fmt.Errorf("nothing for %s", expr)
	})
}
