//go:build cluster

package cluster

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const host = "shop.example.com"

// shop is the namespace of the backends.
const shop = `{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
`

// backend is a Deployment of the sample backend, with arguments, and its Service.
func backend(name string, replicas int, args ...string) string {
	return fmt.Sprintf(`
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: shop}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 1}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: backend
        image: lab.local/backend:1
        args: [%[3]s]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: shop}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: 8080}]
`, name, replicas, strings.Join(args, ", "))
}

// route leads / to web and /api to a Service.
func route(api string) string {
	return fmt.Sprintf(`
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: shop, namespace: shop}
spec:
  hostnames: [%s]
  rules:
  - backendRefs: [{name: web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: %s, port: 80}]
`, host, api)
}

// TestARelease follows a release through its life.
func TestARelease(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"it installs into a namespace that enforces the restricted Pod Security Standard", installs},
		{"its own test passes", func(t *testing.T) { t.Log(helm(t, "test", "--logs")) }},
		{"it serves two Services by path, and 404 else", serves},
		{"an edit of a route is served within seconds", edits},
		{"all replicas take part", allServe},
		{"its service account may do what it needs and no more", rights},
		{"a rolling restart of the backend loses nothing", restartsBackend},
		{"Pods that are killed cost no GET whose rule retries resets", losesPods},
		{"an endpoint that is not ready gets nothing, and nothing is lost", losesReadiness},
		{"a rolling restart of the proxy loses nothing", restartsProxy},
		{"an upgrade loses nothing", upgrades},
		{"a rollback loses nothing", rollsBack},
		{"traffic goes on without the API server", outlivesAPIServer},
		{"it shows what a replica costs", costs},
		{"a replica that is killed costs what was on its connections", losesReplica},
		{"an uninstall leaves nothing but the CRDs", uninstalls},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal("later steps build on this one")
		}
	}
}

// values are the arguments of helm that every step gives.
func values(more ...string) []string {
	return append([]string{os.Getenv("CHART"), "--wait", "--timeout", "3m",
		"--set", "image.repository=lab.local/ferrum,image.tag=e2e,image.pullPolicy=Never",
		"--set", "service.type=NodePort,service.ports.http.nodePort=" + nodePort,
		"--set", fmt.Sprintf("replicas=%d", replicas),
		"--set", "config.drain.timeout=10s,minReadySeconds=2,resources.requests.cpu=10m",
	}, more...)
}

func installs(t *testing.T) {
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}}`, namespace))
	apply(t, shop+backend("web", 5)+backend("api", 1)+backend("api2", 1))
	begin := time.Now()
	helm(t, "install", values()...)
	t.Logf("installed in %s", time.Since(begin).Round(time.Millisecond))
	kubectl(t, "-n", "shop", "wait", "--for=condition=Available", "deployment", "--all", "--timeout=2m")
}

func serves(t *testing.T) {
	apply(t, route("api"))
	kubectl(t, "-n", "shop", "wait", "--for=condition=Programmed", "proxyroute/shop", "--timeout=1m")
	answers(t, host, "/", 200, "web-")
	answers(t, host, "/api/x", 200, "api-")
	answers(t, "other.example.com", "/", 404, "404 no_route")
}

func edits(t *testing.T) {
	apply(t, route("api2"))
	took := answers(t, host, "/api", 200, "api2-")
	t.Logf("served %s after kubectl had returned", took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("an edit took %s", took)
	}
}

var served = regexp.MustCompile(`(?m)^ferrum_requests_total\{code_class="2xx",.*\} (\d+)`)

func allServe(t *testing.T) {
	eventually(t, "every replica has answered a request", func() error {
		client := newClient() // each connection may reach another replica
		_, _, err := ask(client, host, "/")
		client.CloseIdleConnections()
		if err != nil {
			return err
		}
		pods := podAddresses(t)
		if len(pods) != replicas {
			return fmt.Errorf("%d replicas", len(pods))
		}
		for name, ip := range pods {
			text, err := metrics(ip)
			if err != nil {
				return err
			}
			if !served.MatchString(text) {
				return fmt.Errorf("%s has answered nothing", name)
			}
		}
		return nil
	})
}

func rights(t *testing.T) {
	as := "--as=system:serviceaccount:" + namespace + ":ferrum-ferrum-proxy"
	can := func(args ...string) string {
		out, _ := command("", "kubectl", append([]string{"auth", "can-i", as}, args...)...) // "no" exits with 1
		return strings.TrimSpace(out)
	}
	for _, args := range [][]string{{"watch", "proxyroutes.ferrum.dev", "-A"}, {"list", "services", "-A"}, {"patch", "proxyroutes.ferrum.dev", "--subresource=status", "-A"}, {"update", "leases/ferrum-ferrum-proxy-status-writer", "-n", namespace}} {
		if got := can(args...); got != "yes" {
			t.Errorf("%v: %s", args, got)
		}
	}
	for _, args := range [][]string{{"get", "secrets", "-A"}, {"list", "pods", "-A"}, {"update", "proxyroutes.ferrum.dev", "-A"}, {"update", "leases/another", "-n", namespace}, {"create", "leases", "-n", "default"}, {"get", "leases", "-n", "default"}} {
		if got := can(args...); got != "no" {
			t.Errorf("%v: %s", args, got)
		}
	}
	const read, status = "get list watch", "patch"
	want := map[string]string{
		"services": read, "namespaces": read, "endpointslices.discovery.k8s.io": read, "referencegrants.gateway.networking.k8s.io": read,
		"proxyroutes.ferrum.dev": read, "backendpolicies.ferrum.dev": read, "proxyclasses.ferrum.dev": read,
		"proxyroutes.ferrum.dev/status": status, "backendpolicies.ferrum.dev/status": status, "proxyclasses.ferrum.dev/status": status,
		"leases.coordination.k8s.io": "create", "leases.coordination.k8s.io/ferrum-ferrum-proxy-status-writer": "get update", "events.events.k8s.io": "create patch",
	}
	list := can("--list", "-n", namespace)
	got := verbs(list)
	for resource, v := range got {
		// Every account may ask about itself.
		if want[resource] != v && !strings.HasPrefix(resource, "self") && !strings.HasPrefix(resource, "clustertrustbundles.") {
			t.Errorf("%s: the service account may %s, want %q:\n%s", resource, v, want[resource], list)
		}
	}
	for resource := range want {
		if got[resource] == "" {
			t.Errorf("the service account may do nothing to %s:\n%s", resource, list)
		}
	}
}

var bracketed = regexp.MustCompile(`\[([^]]*)\]`)

// verbs returns what may be done to each resource by a list of kubectl auth can-i,
// which has the names that a right is limited to before the verbs. Such a right is
// that of resource/names.
func verbs(list string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(list) {
		resource, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if resource == "" || resource == "Resources" || strings.HasPrefix(resource, "[") {
			continue // no resource
		}
		columns := bracketed.FindAllStringSubmatch(rest, -1)
		if len(columns) != 3 {
			continue
		}
		if names := columns[1][1]; names != "" {
			resource += "/" + names
		}
		words := append(strings.Fields(all[resource]), strings.Fields(columns[2][1])...)
		slices.Sort(words)
		all[resource] = strings.Join(slices.Compact(words), " ")
	}
	return all
}

// A backend that closes its idle connections at once loses the race against a
// request on one of them. A GET is sent again. A POST may have been processed, so
// that takes a backend which goes on serving while the proxies learn that it goes.
func restartsBackend(t *testing.T) {
	for _, c := range []struct{ method, args string }{{http.MethodGet, ""}, {http.MethodPost, "-linger=3s"}} {
		apply(t, backend("web", 5, c.args))
		kubectl(t, "-n", "shop", "rollout", "status", "deployment/web", "--timeout=3m")
		for n := range 3 {
			l := startLoad(c.method)
			kubectl(t, "-n", "shop", "rollout", "restart", "deployment/web")
			kubectl(t, "-n", "shop", "rollout", "status", "deployment/web", "--timeout=3m")
			l.mustLoseNothing(t, fmt.Sprintf("%s, restart %d of 5 Pods %s", c.method, n+1, c.args))
		}
	}
}

func restartsProxy(t *testing.T) {
	for n := range 3 {
		l := startLoad(http.MethodPost)
		kubectl(t, "-n", namespace, "rollout", "restart", "deployment/ferrum-ferrum-proxy")
		kubectl(t, "-n", namespace, "rollout", "status", "deployment/ferrum-ferrum-proxy", "--timeout=3m")
		waitForPods(t, replicas)
		l.mustLoseNothing(t, fmt.Sprintf("restart %d of %d replicas", n+1, replicas))
	}
}

// waitForPods waits until Pods that go are gone.
func waitForPods(t *testing.T, n int) {
	t.Helper()
	eventually(t, "old replicas are gone", func() error {
		if got := len(podAddresses(t)); got != n {
			return fmt.Errorf("%d replicas", got)
		}
		return nil
	})
}

func upgrades(t *testing.T) {
	l := startLoad(http.MethodPost)
	helm(t, "upgrade", values("--set", "replicas=2,config.log.level=debug")...)
	waitForPods(t, 2)
	l.mustLoseNothing(t, "upgrade to another configuration and 2 replicas")
	if got := kubectl(t, "get", "proxyclass", "ferrum", "-o", "jsonpath={.metadata.labels.app\\.kubernetes\\.io/managed-by}"); got != "Helm" {
		t.Errorf("the class is managed by %q", got)
	}
}

func rollsBack(t *testing.T) {
	l := startLoad(http.MethodPost)
	helm(t, "rollback", "1", "--wait", "--timeout", "3m")
	waitForPods(t, replicas)
	l.mustLoseNothing(t, "rollback to the first revision")
	kubectl(t, "get", "proxyclass", "ferrum")
}

// costs prints the memory and the CPU time of each replica. What the chart requests
// by default holds the memory.
func costs(t *testing.T) {
	const requested = 128 << 20
	if got := kubectl(t, "-n", namespace, "get", "deployment", "ferrum-ferrum-proxy", "-o", "jsonpath={.spec.template.spec.containers[0].resources.requests.memory}"); got != "128Mi" {
		t.Errorf("the chart requests %s", got)
	}
	rest := make(map[string]float64)
	for name, ip := range podAddresses(t) {
		text, err := metrics(ip)
		if err != nil {
			t.Fatal(err)
		}
		rest[name] = sample(t, text, "process_cpu_seconds_total")
		t.Logf("%s at rest: %.0f MiB resident", name, sample(t, text, "process_resident_memory_bytes")/(1<<20))
	}
	l := startLoad(http.MethodPost)
	begin := time.Now()
	time.Sleep(10 * time.Second)
	for name, ip := range podAddresses(t) {
		text, err := metrics(ip)
		if err != nil {
			t.Fatal(err)
		}
		cpu := (sample(t, text, "process_cpu_seconds_total") - rest[name]) / time.Since(begin).Seconds()
		memory := sample(t, text, "process_resident_memory_bytes")
		t.Logf("%s under load: %.0f MiB resident, %.0f m CPU", name, memory/(1<<20), cpu*1000)
		if memory > requested {
			t.Errorf("%s needs more memory than the chart requests", name)
		}
	}
	l.mustLoseNothing(t, "load")
}

// sample returns the value of a metric without labels.
func sample(t *testing.T, text, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func uninstalls(t *testing.T) {
	helm(t, "uninstall", "--wait", "--timeout", "3m")
	waitForPods(t, 0)
	kinds := kubectl(t, "api-resources", "--verbs=list", "-o", "name")
	all := slices.DeleteFunc(strings.Fields(kinds), func(kind string) bool { return strings.HasPrefix(kind, "events") })
	var left []string
	for _, label := range []string{"app.kubernetes.io/instance=ferrum", "app.kubernetes.io/name=ferrum-proxy"} {
		left = append(left, strings.Fields(kubectl(t, "get", strings.Join(all, ","), "-A", "-l", label, "-o", "name", "--ignore-not-found"))...)
	}
	left = slices.DeleteFunc(left, func(name string) bool { return strings.HasPrefix(name, "customresourcedefinition.") })
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out := kubectl(t, "get", "proxyclasses", "-o", "name") + kubectl(t, "-n", namespace, "get", "leases,secrets", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind: %s", out)
	}
	if out := kubectl(t, "-n", "shop", "get", "proxyroutes", "-o", "name"); !strings.Contains(out, "shop") {
		t.Errorf("the routes went with the release: %q", out)
	}
}
