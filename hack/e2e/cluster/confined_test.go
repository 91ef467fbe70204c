//go:build cluster

package cluster

import (
	"strings"
	"testing"
)

// A Pod on each node, reached at a port of the node, with rights in one namespace:
// all that differs most from what TestARelease installs.
func TestADaemonSetIsConfinedToItsNamespace(t *testing.T) {
	const home = "edge" // not restricted: that would not let it have a port of the node
	apply(t, shop+backend("web", 1)+backend("api", 1))
	apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: elsewhere}}`)
	apply(t, strings.ReplaceAll(backend("web", 1), "namespace: shop", "namespace: elsewhere"))
	must(t, "helm", append([]string{"install", "--namespace", home, "--create-namespace", "ferrum"},
		values("--set", "kind=DaemonSet,hostPort="+nodePort+",service.enabled=false,rbac.scope=Namespaced,watchNamespaces={shop}")...)...)
	apply(t, route("api"))
	apply(t, strings.NewReplacer("namespace: shop", "namespace: elsewhere", host, "elsewhere.example.com").Replace(route("web")))
	answers(t, host, "/", 200, "web-")
	answers(t, host, "/api", 200, "api-")
	answers(t, "elsewhere.example.com", "/", 404, "404 no_route")

	as := "--as=system:serviceaccount:" + home + ":ferrum-ferrum-proxy"
	for _, c := range []struct{ verb, resource, where, want string }{
		{"list", "services", "--namespace=shop", "yes"},
		{"list", "services", "--namespace=elsewhere", "no"},
		{"watch", "proxyroutes.ferrum.dev", "--all-namespaces", "no"},
		{"get", "secrets", "--namespace=shop", "no"},
		{"watch", "proxyclasses.ferrum.dev", "--all-namespaces", "yes"},
	} {
		out, _ := command("", "kubectl", "auth", "can-i", as, c.verb, c.resource, c.where) // "no" exits with 1
		if got := strings.TrimSpace(out); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.verb, c.resource, c.where, got, c.want)
		}
	}
	must(t, "helm", "uninstall", "--namespace", home, "ferrum", "--wait")
	// The CRDs stay, and with them the name of this release, which the next test's
	// could not take them over from.
	must(t, "kubectl", "delete", "crds", "--selector", "app.kubernetes.io/name=ferrum-proxy")
}
