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

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
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
	return append([]string{os.Getenv("CHART"), "--wait", "--timeout", patience.String(),
		"--set", "image.repository=lab.local/ferrum,image.tag=e2e,image.pullPolicy=Never",
		"--set", "service.type=NodePort,service.ports.http.nodePort=" + nodePort,
		"--set", fmt.Sprintf("replicas=%d", replicas),
		"--set", "config.drain.timeout=10s,minReadySeconds=2",
	}, more...)
}

func installs(t *testing.T) {
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}}`, namespace))
	apply(t, shop+backend("web", 5)+backend("api", 1)+backend("api2", 1))
	begin := time.Now()
	helm(t, "install", values()...)
	t.Logf("installed in %s", time.Since(begin).Round(time.Millisecond))
	await(t, "shop", "Available", "deployment", "--all")
}

func serves(t *testing.T) {
	apply(t, route("api"))
	await(t, "shop", "Programmed", "proxyroute/shop")
	answers(t, door, host, "/", 200, "web-")
	answers(t, door, host, "/api/x", 200, "api-")
	answers(t, door, "other.example.com", "/", 404, "404 no_route")
}

func edits(t *testing.T) {
	next := []string{"api2", "api", "api2"}
	timely(t, "an edit is served after kubectl has returned", time.Second, func() time.Duration {
		apply(t, route(next[0]))
		took := answers(t, door, host, "/api", 200, next[0]+"-")
		next = next[1:]
		return took
	})
	apply(t, route("api2"))
	await(t, "shop", "Programmed", "proxyroute/shop")
}

var served = regexp.MustCompile(`(?m)^ferrum_requests_total\{code_class="2xx",.*\} (\S+)$`)

// answered returns how many requests a replica has answered with 2xx, by its metrics.
func answered(text string) (n float64) {
	for _, m := range served.FindAllStringSubmatch(text, -1) {
		if v, err := strconv.ParseFloat(m[1], 64); err == nil {
			n += v
		}
	}
	return n
}

func allServe(t *testing.T) {
	all := replicasOnly(t, replicas)
	eventually(t, "every replica has answered a request", func() error {
		client := newClient() // each connection may reach another replica
		_, _, err := send(client, http.MethodGet, door, host, "/")
		client.CloseIdleConnections()
		if err != nil {
			return err
		}
		for _, p := range all {
			text, err := metrics(p.Status.PodIP)
			if err != nil {
				return err
			}
			if answered(text) == 0 {
				return fmt.Errorf("%s has answered nothing", p.Name)
			}
		}
		return nil
	})
}

// A backend that closes its idle connections at once loses the race against a
// request on one of them. A GET is sent again. A POST may have been processed, so
// that takes a backend which goes on serving while the proxies learn that it goes.
func restartsBackend(t *testing.T) {
	for _, c := range []struct{ method, args string }{{http.MethodGet, ""}, {http.MethodPost, "-linger=10s"}} {
		apply(t, backend("web", 5, c.args))
		rolledOut(t, "shop", "web")
		for n := range 3 {
			l := startLoad(c.method)
			kubectl(t, "-n", "shop", "rollout", "restart", "deployment/web")
			rolledOut(t, "shop", "web")
			l.mustLoseNothing(t, fmt.Sprintf("%s, restart %d of 5 Pods %s", c.method, n+1, c.args))
		}
	}
}

func restartsProxy(t *testing.T) {
	for n := range 3 {
		l := startLoad(http.MethodPost)
		kubectl(t, "-n", namespace, "rollout", "restart", "deployment/ferrum-ferrum-proxy")
		rolledOut(t, namespace, "ferrum-ferrum-proxy")
		replicasOnly(t, replicas)
		l.mustLoseNothing(t, fmt.Sprintf("restart %d of %d replicas", n+1, replicas))
	}
}

func upgrades(t *testing.T) {
	l := startLoad(http.MethodPost)
	helm(t, "upgrade", values("--set", "replicas=2,config.log.level=debug")...)
	replicasOnly(t, 2)
	l.mustLoseNothing(t, "upgrade to another configuration and 2 replicas")
	if got := kubectl(t, "get", "proxyclass", "ferrum", "-o", "jsonpath={.metadata.labels.app\\.kubernetes\\.io/managed-by}"); got != "Helm" {
		t.Errorf("the class is managed by %q", got)
	}
}

func rollsBack(t *testing.T) {
	l := startLoad(http.MethodPost)
	helm(t, "rollback", "1", "--wait", "--timeout", patience.String())
	replicasOnly(t, replicas)
	l.mustLoseNothing(t, "rollback to the first revision")
	kubectl(t, "get", "proxyclass", "ferrum")
}

// costs prints the memory and the CPU time of each replica, at rest and under load,
// and holds what the chart requests by default to it. How much CPU time the load
// takes is the load's and the machine's affair; that of a replica without any has to
// fit.
func costs(t *testing.T) {
	all := replicasOnly(t, replicas)
	requests := all[0].Spec.Containers[0].Resources.Requests
	memory, cpu := requests.Memory(), requests.Cpu()
	t.Logf("the chart requests %s and %s CPU", memory, cpu)
	if rest := spend(t, all, "at rest", 10*time.Second, memory); rest > cpu.AsApproximateFloat64() {
		t.Errorf("a replica that does nothing takes %.0f m CPU", rest*1000)
	}
	l := startLoad(http.MethodPost)
	spend(t, all, "under load", 10*time.Second, memory)
	l.mustLoseNothing(t, "load")
}

// spend prints what replicas take for a while, and returns the CPUs of the median
// one. It fails the test if one needs more memory than is requested.
func spend(t *testing.T, all []corev1.Pod, when string, during time.Duration, requested *resource.Quantity) float64 {
	t.Helper()
	const cpu, memory = "process_cpu_seconds_total", "process_resident_memory_bytes"
	type reading struct {
		at   time.Time
		text string
	}
	read := func(p corev1.Pod) reading {
		text, err := metrics(p.Status.PodIP)
		if err != nil {
			t.Fatal(err)
		}
		return reading{time.Now(), text}
	}
	before := make(map[string]reading)
	for _, p := range all {
		before[p.Name] = read(p)
	}
	time.Sleep(during) // what is measured is a rate
	var cpus []float64
	for _, p := range all {
		was, is := before[p.Name], read(p)
		seconds := is.at.Sub(was.at).Seconds()
		used := (sample(t, is.text, cpu) - sample(t, was.text, cpu)) / seconds
		resident := sample(t, is.text, memory)
		t.Logf("%s %s: %.0f MiB resident, %.1f m CPU, %.0f requests a second",
			p.Name, when, resident/(1<<20), used*1000, (answered(is.text)-answered(was.text))/seconds)
		if resident > requested.AsApproximateFloat64() {
			t.Errorf("%s takes more memory %s than the chart requests", p.Name, when)
		}
		cpus = append(cpus, used)
	}
	slices.Sort(cpus)
	return cpus[len(cpus)/2]
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
	uninstall(t, namespace, "ferrum")
	if out := kubectl(t, "-n", "shop", "get", "proxyroutes", "-o", "name"); !strings.Contains(out, "shop") {
		t.Errorf("the routes went with the release: %q", out)
	}
}

// uninstall removes a release and waits until nothing is left of it but the CRDs.
// Helm waits for its own objects. Pods, EndpointSlices and what else the cluster has
// made of them go after it has returned: a Pod ends after the delay of its drain, and
// is there for a moment more, and it may take the garbage collector up to a minute
// to learn of a Deployment's end after an outage of the API server.
func uninstall(t *testing.T, namespace, release string) {
	t.Helper()
	begin := time.Now()
	must(t, "helm", "uninstall", "--namespace", namespace, release, "--wait", "--timeout", patience.String())
	helm := time.Since(begin)
	kinds := slices.DeleteFunc(strings.Fields(kubectl(t, "api-resources", "--verbs=list", "-o", "name")), func(kind string) bool {
		return strings.HasPrefix(kind, "events") || strings.HasPrefix(kind, "customresourcedefinitions.")
	})
	eventually(t, "nothing is left of "+release, func() error {
		left := kubectl(t, "get", strings.Join(kinds, ","), "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name", "--ignore-not-found") +
			kubectl(t, "-n", namespace, "get", "leases,secrets,pods", "-o", "name")
		if left = strings.TrimSpace(left); left != "" {
			return fmt.Errorf("left behind: %q", left)
		}
		return nil
	})
	t.Logf("helm uninstall took %s, and nothing was left after %s", helm.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
}

// deleteCRDs has the next test begin without them. They belong to the release they
// came with, and one of another name could not take them over.
func deleteCRDs(t *testing.T) {
	t.Helper()
	kubectl(t, "delete", "crds", "--selector", "app.kubernetes.io/name=ferrum-proxy")
}
