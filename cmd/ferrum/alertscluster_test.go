//go:build promtool

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// edited is a scrape with more added to the series whose names begin with one of
// these.
func edited(scrape string, more float64, series ...string) string {
	var b strings.Builder
	for l := range strings.Lines(scrape) {
		for _, s := range series {
			if at := strings.LastIndexByte(l, ' '); strings.HasPrefix(l, s) && at > 0 {
				var v float64
				_, _ = fmt.Sscan(l[at:], &v)
				l = fmt.Sprintf("%s %f\n", l[:at], v+more)
				break
			}
		}
		b.WriteString(l)
	}
	return b.String()
}

// inCluster adds the cases of a process with an API server.
func inCluster(t *testing.T, add func(fault, []target)) {
	server := kubetest.Start(t)
	cluster := server.Client(t)
	dir := filepath.Join(t.TempDir(), "snapshot")
	kubeconfig, cut := throughRelay(t, server.Kubeconfig(t), server.Config().Host)
	p := startBy(t, []string{"/usr/bin/env", "POD_NAMESPACE=default"}, "--kubeconfig", kubeconfig, "--snapshot-directory", dir).ready()
	create := func(o client.Object) {
		t.Helper()
		if err := cluster.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	class := &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: "ferrum"}}
	create(class)
	n := 0
	route := func() {
		t.Helper()
		n++
		r := &v1alpha1.ProxyRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("r%d", n)}}
		r.Spec.ClassName = new(class.Name)
		r.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(fmt.Sprintf("h%d.example.com", n))}
		r.Spec.Rules = []v1alpha1.RouteRule{{BackendRefs: []v1alpha1.BackendRef{{Name: "app", Port: intstr.FromInt32(80)}}}}
		create(r)
		eventually(t, "the route is served", func() bool { return p.metric("ferrum_config_routes") == float64(n) })
	}
	eventually(t, "it writes statuses", func() bool { return p.metric("ferrum_controller_status_leader") == 1 })
	healthy := rounds(p, route)
	add(fault{name: "nothing, in a cluster"}, healthy)

	last := healthy[0].scrapes[3]
	edit := func(alert string, more float64, series ...string) {
		again := []target{{name: "a", scrapes: []string{last, edited(last, more, series...), edited(last, 2*more, series...)}}}
		add(fault{name: alert + ", edited", fires: []string{alert}}, again)
	}
	const propagation = "ferrum_controller_propagation_seconds_"
	edit("FerrumPropagationSlow", 5, propagation+`bucket{le="10"}`, propagation+`bucket{le="30"}`, propagation+`bucket{le="60"}`, propagation+`bucket{le="+Inf"}`, propagation+"count")
	edit("FerrumConfigurationRefused", 1, "ferrum_controller_apply_failures_total ")
	edit("FerrumReplicasBehind", 1, "ferrum_controller_replicas_behind ")
	edit("FerrumRuleSeriesOverflow", 1, "ferrum_rule_series_overflowed ")

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := p.scrape()
	route()
	eventually(t, "it fails to write", func() bool { return p.metric(`ferrum_config_snapshot_writes_total{result="error"}`) > 0 })
	add(fault{name: "the snapshot cannot be written", fires: []string{"FerrumSnapshotNotWritten"}},
		[]target{{name: "a", scrapes: []string{before, p.scrape()}}})
	if err := errors.Join(os.Remove(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	const written = `ferrum_config_snapshot_writes_total{result="success"}`
	so := p.metric(written)
	eventually(t, "it tries again and writes", func() bool { return p.metric(written) > so })

	before = p.scrape()
	cut()
	eventually(t, "it has given up the lease", func() bool { return p.metric("ferrum_controller_status_leader") == 0 })
	out := rounds(p, watchFails(p))
	out[0].scrapes[0] = before
	add(fault{name: "the API server is away", fires: []string{"FerrumAPIServerUnreachable", "FerrumNoStatusWriter"}}, out)
}

// watchFails waits until p has asked in vain for ProxyRoutes once more.
func watchFails(p *process) func() {
	const series = `ferrum_controller_watch_errors_total{kind="ProxyRoute"}`
	seen := 0.0
	return func() {
		eventually(p.t, "it asks again", func() bool { return strings.Contains(p.scrape(), series) && p.metric(series) > seen })
		seen = p.metric(series)
	}
}

// throughRelay returns a kubeconfig like another one, by which the API server is
// reached until cut is called. (Stopping it would take a minute: it waits for
// watches to end.)
func throughRelay(t *testing.T, kubeconfig, url string) (through string, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	context.AfterFunc(ctx, func() { _ = l.Close() })
	api := strings.Trim(strings.TrimPrefix(url, "https:"), "/")
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", api)
			if err != nil {
				_ = near.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
			go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	through = filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(through, bytes.ReplaceAll(text, []byte(api), []byte(l.Addr().String())), 0o600); err != nil {
		t.Fatal(err)
	}
	return through, cut
}
