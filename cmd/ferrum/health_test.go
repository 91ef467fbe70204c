package main

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
)

// withSlice adds the server at addr to the Service of oneRoute.
func withSlice(manifest, name, addr string) string {
	ip, port, _ := strings.Cut(addr, ":")
	return manifest + fmt.Sprintf(`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: web, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: %s, protocol: TCP}]
endpoints: [{addresses: [%s], conditions: {ready: true}}]
`, name, port, ip)
}

// refusing is an address at which nothing listens.
func refusing(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

func TestAnEndpointThatRefusesIsEjectedByDefaultAndItIsSaid(t *testing.T) {
	bad := refusing(t)
	dir := newManifestDir(t, map[string]string{
		"site.yaml": withSlice(oneRoute("a.example.com", backend(t, "good")), "app-2", bad),
	})
	p := start(t, "--manifests", string(dir)).ready()
	failed := 0
	for range 200 {
		if status, _ := p.get("a.example.com", "/"); status != 200 {
			failed++
		}
	}
	const id = `namespace="web",port="80",service="app"`
	ejections := p.metric(`ferrum_upstream_ejections_total{` + id + `}`)
	if ejections < 1 || failed > 0 { // what is refused is tried elsewhere
		t.Errorf("%d requests failed in %v ejections", failed, ejections)
	}
	if n := p.metric(`ferrum_upstream_endpoints{` + id + `,state="ejected"}`); n != 1 {
		t.Errorf("%v are ejected", n)
	}
	var out, errs bytes.Buffer
	if code := execute([]string{"explain", "--admin", p.admin, "GET", "http://a.example.com/"}, &out, &errs); code != 0 {
		t.Fatalf("%d: %s", code, errs.String())
	}
	if text := out.String(); !strings.Contains(text, bad) || !strings.Contains(text, "ejected") || !strings.Contains(text, "a request tries it at ") {
		t.Error(text)
	}
	if _, page := p.do(p.admin+"/debug/endpoints", ""); !strings.Contains(page, `"state": "ejected"`) || !strings.Contains(page, `"until": "`) {
		t.Error(page)
	}
}

func TestTheProcessIsReadyWithTheFirstResultsOfItsChecks(t *testing.T) {
	dir := newManifestDir(t, map[string]string{
		"site.yaml": withSlice(oneRoute("a.example.com", backend(t, "good")), "app-2", refusing(t)) + `---
apiVersion: ferrum.dev/v1alpha1
kind: BackendPolicy
metadata: {name: app, namespace: web}
spec:
  targetRefs: [{kind: Service, name: app}]
  healthCheck: {active: {type: TCP, interval: 1s, timeout: 500ms, unhealthyThreshold: 1}}
`,
	})
	p := start(t, "--manifests", string(dir)).ready()
	for range 50 {
		if status, body := p.get("a.example.com", "/"); status != 200 || body != "good" {
			t.Fatalf("%d %q: the endpoint that fails its check got a request", status, body)
		}
	}
	if n := p.metric(`ferrum_upstream_endpoints{namespace="web",port="80",service="app",state="unhealthy"}`); n != 1 {
		t.Errorf("%v are unhealthy", n)
	}
}
