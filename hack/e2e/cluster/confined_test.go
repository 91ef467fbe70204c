//go:build cluster

package cluster

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A release of a platform team beside that of everybody: a Pod on each node, reached
// at a port of the node, with rights in one namespace and a class of its own. All
// that differs most from what TestARelease installs.
func TestAConfinedReleaseStandsBesideAnother(t *testing.T) {
	const (
		release   = "edge" // also its namespace, which is not restricted: that would not let it have a port of the node
		elsewhere = "elsewhere"
		side      = node + ":30081" // the node's port of the release
		health    = node + ":30082"
	)
	apply(t, shop+backend("web", 1)+backend("api", 1))
	apply(t, strings.ReplaceAll(shop+backend("web", 1), "shop", elsewhere))
	helm(t, "install", values("--create-namespace", "--set", "replicas=1,config.classes={ferrum}")...)
	must(t, "helm", append([]string{"install", "--namespace", release, "--create-namespace", release}, values("--set", strings.Join([]string{
		"kind=DaemonSet,hostPort=30081,service.type=LoadBalancer,service.loadBalancerClass=example.com/none",
		"service.healthCheckNodePort=30082,service.ports.http.nodePort=null",
		"rbac.scope=Namespaced,watchNamespaces={shop},config.classes={edge}",
		"class.name=edge,class.default=false,crds.enabled=false",
	}, ","))...)...)

	// The same route in both namespaces, and one of the other release's class.
	for _, where := range []string{elsewhere, "shop"} {
		apply(t, fmt.Sprintf(`
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: edge, namespace: %[1]s}
spec:
  className: edge
  hostnames: [%[1]s.edge.example.com]
  rules:
  - backendRefs: [{name: web, port: 80}]
`, where))
	}
	apply(t, route("api"))
	answers(t, door, host, "/api", 200, "api-")
	answers(t, side, "shop.edge.example.com", "/", 200, "web-")
	await(t, "shop", "Programmed", "proxyroute/edge", "proxyroute/shop")
	for _, c := range []struct{ at, host string }{{side, elsewhere + ".edge.example.com"}, {side, host}, {door, "shop.edge.example.com"}} {
		answers(t, c.at, c.host, "/", 404, "404 no_route")
	}
	if got := kubectl(t, "-n", elsewhere, "get", "proxyroute", "edge", "-o", "jsonpath={.status}"); got != "" {
		t.Errorf("somebody has judged a route that nobody watches: %s", got)
	}

	mayOnly(t, release+":edge-ferrum-proxy", func(where string) grant {
		switch where {
		case release: // the EndpointSlices there say where the replicas are
			return everywhere.and(home("edge-ferrum-proxy-status-writer")).and(grant{"endpointslices.discovery.k8s.io": reads})
		case "shop":
			return everywhere.and(watched)
		default:
			return everywhere
		}
	})
	saysWhenToStop(t, release, health)

	uninstall(t, release, release)
	answers(t, door, host, "/api", 200, "api-")
	uninstall(t, namespace, "ferrum")
	deleteCRDs(t)
}

// saysWhenToStop ends the Pod of a DaemonSet and asks the node, as a load balancer
// in front of it does, whether to send it anything.
func saysWhenToStop(t *testing.T, namespace, health string) {
	t.Helper()
	says := func(want int) time.Duration {
		t.Helper()
		return eventually(t, fmt.Sprintf("the node's health check says %d", want), func() error {
			client := newClient()
			defer client.CloseIdleConnections()
			got, body, err := send(client, http.MethodGet, health, "", "/healthz")
			if err == nil && got != want {
				err = fmt.Errorf("%d %s", got, body)
			}
			return err
		})
	}
	says(200)
	pod := onlyReady(t, namespace, "app.kubernetes.io/name=ferrum-proxy", 1)[0]
	kubectl(t, "-n", namespace, "delete", "pod", pod.Name, "--wait=false")
	took := says(503)
	_, _, err := send(admin, http.MethodGet, net.JoinHostPort(pod.Status.PodIP, "8080"), host, "/")
	t.Logf("the node's health check said 503 %s after the Pod was deleted; it went on taking connections: %t", took.Round(time.Millisecond), err == nil)
	says(200)
}
