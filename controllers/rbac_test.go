package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestTheRightsInConfigRBACSufficeAndAreNoMore(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	const home = "ferrum-system"
	objects := []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}}
	for _, file := range []string{"role.yaml", "role_binding.yaml"} {
		objects = append(objects, objectsIn(t, filepath.Join("..", "config", "rbac", file))...)
	}
	for _, o := range objects { // which an earlier run of the test may have left
		if err := client.IgnoreAlreadyExists(c.Create(t.Context(), o)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := s.UserConfig(t, "system:serviceaccount:"+home+":ferrum", "system:serviceaccounts", "system:serviceaccounts:"+home)

	transitions := controllers.NewTransitions()
	r := run(t, cfg, home, "a", func(o *controllers.Options) {
		o.Health, o.Transitions = healthOfPlan{o.Applier.(*recorder), plan.PoolHealth{Ready: 1}}, transitions
	})
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	create(t, c, newClass(ns), service, slice, route)
	r.waitFor(t, "the route and its endpoint", func(p plan.Plan) bool { return addresses(p, ns, "web") == "[10.0.0.1:8080]" })
	routeStatus(t, c, route, "Programmed=True/Programmed", "BackendsHealthy=True/BackendsHealthy")
	waitForEvent(t, c, transitions, ns, "web")

	// A Lease that somebody deletes must not end the writes for good.
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: controllers.LeaseName}}
	if err := c.Delete(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error { return c.Get(ctx, client.ObjectKeyFromObject(lease), lease) })
	if n := r.metric(t, "ferrum_controller_watch_errors_total"); n != 0 {
		t.Errorf("%v watch errors", n)
	}

	limited, err := client.New(cfg, client.Options{Scheme: kubetest.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"list Secrets":         limited.List(t.Context(), &corev1.SecretList{}),
		"delete a ProxyRoute":  limited.Delete(t.Context(), route),
		"edit a ProxyRoute":    limited.Update(t.Context(), route),
		"create a Service":     limited.Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "x"}}),
		"see Leases elsewhere": limited.List(t.Context(), unstructuredList("coordination.k8s.io/v1", "LeaseList")),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", what, err)
		}
	}
}

func unstructuredList(apiVersion, kind string) *unstructured.UnstructuredList {
	return &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
}

// objectsIn reads the objects of a YAML file.
func objectsIn(t *testing.T, path string) []client.Object {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []client.Object
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
		o := &unstructured.Unstructured{}
		switch err := d.Decode(o); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("%s: %v", path, err)
		case len(o.Object) > 0:
			list = append(list, o)
		}
	}
}
