package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// allow gives a user rights on resources.
func allow(t *testing.T, c client.Client, user, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	for i := range rules {
		rules[i].Verbs = []string{"*"}
	}
	meta := metav1.ObjectMeta{Name: user + "-" + name}
	create(t, c,
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}})
}

// A list of ReferenceGrants that failed for 30 s at the start left the informer
// that was given up among those that the other sources waited for: no plan, for
// as long as the process lived.
func TestGrantsThatCannotBeListedAtTheStartDelayThePlanNoLongerThanThat(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	endpoints := rbacv1.PolicyRule{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}}
	allow(t, c, ns, "most",
		rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"*"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services", "namespaces"}},
		rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}})

	// The other kinds sync while the informer of ReferenceGrants is there.
	r := run(t, s.UserConfig(t, ns), ns, "a", func(o *controllers.Options) { o.SetGrantsSync(3 * time.Second) })
	eventually(t, func(context.Context) error {
		if r.metric(t, "ferrum_controller_watch_errors_total", "ReferenceGrant") == 0 {
			return errors.New("the list of ReferenceGrants has not failed")
		}
		return nil
	})
	allow(t, c, ns, "slices", endpoints)
	eventually(t, func(context.Context) error {
		if !r.log.has("cannot tell whether there are ReferenceGrants") {
			return errors.New("it does not give up")
		}
		return nil
	})
	if plans, _ := r.all(); len(plans) != 0 {
		t.Error("a plan before the grants are known")
	}
	allow(t, c, ns, "grants", rbacv1.PolicyRule{APIGroups: []string{gatewayv1.GroupName}, Resources: []string{"referencegrants"}})
	r.waitFor(t, "whatever there is", func(plan.Plan) bool { return true })
}

// serveGrants sets whether the API server serves a version of ReferenceGrant.
func serveGrants(t *testing.T, c client.Client, version string, served bool) {
	t.Helper()
	def := &unstructured.Unstructured{}
	def.SetAPIVersion("apiextensions.k8s.io/v1")
	def.SetKind("CustomResourceDefinition")
	def.SetName("referencegrants.gateway.networking.k8s.io")
	edit(t, c, def, func() {
		versions, _, _ := unstructured.NestedSlice(def.Object, "spec", "versions")
		for _, v := range versions {
			if v := v.(map[string]any); v["name"] == version {
				v["served"] = served
			}
		}
		if err := unstructured.SetNestedSlice(def.Object, versions, "spec", "versions"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReferenceGrantsAreReadInTheVersionThatIsServed(t *testing.T) {
	s := kubetest.Start(t)
	c, ns, backends := s.Client(t), s.Namespace(t, nil), s.Namespace(t, nil)
	serveGrants(t, c, "v1", false)
	awaitGrants(t, s.Config(), "v1", false)
	r := run(t, s.Config(), ns, "a")
	service, slice := newBackend(backends, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	route.Spec.Rules[0].BackendRefs[0].Namespace = &backends
	create(t, c, newClass(ns), service, slice, route)
	routeStatus(t, c, route, "ResolvedRefs=False/RefNotPermitted")

	grant := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gatewayv1beta1.GroupVersion.String(), "kind": "ReferenceGrant",
		"metadata": map[string]any{"namespace": backends, "name": "shop"},
		"spec": map[string]any{
			"from": []any{map[string]any{"group": v1alpha1.GroupName, "kind": "ProxyRoute", "namespace": ns}},
			"to":   []any{map[string]any{"group": "", "kind": "Service"}},
		},
	}}
	create(t, c, grant)
	routeStatus(t, c, route, "ResolvedRefs=True/ResolvedRefs")

	// An upgrade of Gateway API that drops v1beta1.
	serveGrants(t, c, "v1", true)
	awaitGrants(t, s.Config(), "v1", true)
	serveGrants(t, c, "v1beta1", false)
	eventually(t, func(context.Context) error {
		if !r.log.has(fmt.Sprintf("%q", gatewayv1.GroupVersion.String())) {
			return errors.New("it does not go over to v1")
		}
		return nil
	})
	before, _ := r.all()
	for _, p := range before[len(before)-1:] {
		if got := addresses(p, backends, "web"); got != "[10.0.0.1:8080]" {
			t.Errorf("the grant is lost on the way to v1: %s", got)
		}
	}
	grant.SetAPIVersion(gatewayv1.GroupVersion.String())
	if err := c.Delete(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	routeStatus(t, c, route, "ResolvedRefs=False/RefNotPermitted")
}

// awaitGrants waits until discovery says that a version of ReferenceGrant is
// served, or is not.
func awaitGrants(t *testing.T, cfg *rest.Config, version string, served bool) {
	t.Helper()
	c, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		list, err := c.ServerResourcesForGroupVersionWithContext(ctx, gatewayv1.GroupName+"/"+version)
		if err := client.IgnoreNotFound(err); err != nil {
			return err
		}
		if got := err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "referencegrants" }); got != served {
			return fmt.Errorf("ReferenceGrant %s is served: %t, want %t", version, got, served)
		}
		return nil
	})
}
