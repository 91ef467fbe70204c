package controllers_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// A process that watches some namespaces has, in the chart's namespaced mode, no
// rights in the others: it must not even ask.
func TestOnlyObjectsInTheWatchedNamespacesCountAndNoOtherRightsAreNeeded(t *testing.T) {
	s := kubetest.Shared(t)
	c := s.Client(t)
	mine, other, home := s.Namespace(t, map[string]string{"team": "mine"}), s.Namespace(t, nil), s.Namespace(t, nil)
	user := "watcher-" + mine
	create(t, c, namespacedRights(user, home, mine)...)

	class := newClass(mine)
	class.Spec.AllowedRoutes = []v1alpha1.RouteGrant{{Namespaces: &v1alpha1.RouteNamespaces{
		From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "mine"}},
	}}}
	create(t, c, class)
	var routes []*v1alpha1.ProxyRoute
	for _, ns := range []string{other, mine} {
		service, slice := newBackend(ns, "web", "10.0.0.1")
		route := newRoute(ns, "web", host(ns, "a"), "web")
		route.Spec.ClassName = new(mine)
		create(t, c, service, slice, route)
		routes = append(routes, route)
	}

	_, replicas := newBackend(home, "ferrum", "10.0.1.1", "10.0.1.2")
	create(t, c, replicas)
	var counted atomic.Int64
	r := run(t, s.UserConfig(t, user), home, "a", func(o *controllers.Options) {
		o.Namespaces = []string{mine}
		o.ReplicasOf, o.Replicas = types.NamespacedName{Namespace: home, Name: "ferrum"}, func(n int) { counted.Store(int64(n)) }
	})
	p := r.waitFor(t, "the route and its endpoint", func(p plan.Plan) bool { return addresses(p, mine, "web") == "[10.0.0.1:8080]" })
	if got := addresses(p, other, "web"); got != "[]" {
		t.Errorf("a Service elsewhere has the endpoints %s", got)
	}
	if n := counted.Load(); n != 2 {
		t.Errorf("%d replicas are counted in the namespace of the proxy, want 2", n)
	}
	routeStatus(t, c, routes[1], "Programmed=True/Programmed")
	eventually(t, func(ctx context.Context) error {
		var got v1alpha1.ProxyClass
		if err := c.Get(ctx, client.ObjectKeyFromObject(class), &got); err != nil {
			return err
		}
		if len(got.Status.Conditions) == 0 {
			return fmt.Errorf("the class has no conditions")
		}
		return nil
	})
	var elsewhere v1alpha1.ProxyRoute
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(routes[0]), &elsewhere); err != nil {
		t.Fatal(err)
	}
	if n := len(elsewhere.Status.Conditions); n != 0 {
		t.Errorf("the route elsewhere has %d conditions", n)
	}
	if n := r.metric(t, "ferrum_controller_watch_errors_total"); n != 0 {
		t.Errorf("%v watch errors", n)
	}
}

// namespacedRights are those of the chart with rbac.scope=Namespaced.
func namespacedRights(user, home, ns string) []client.Object {
	read := []string{"get", "list", "watch"}
	rule := func(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	meta := func(ns string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: user} }
	ref := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: user}
	}
	subjects := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}
	own := v1alpha1.GroupVersion.Group
	return []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: meta(""), Rules: []rbacv1.PolicyRule{
			rule(corev1.GroupName, read, "namespaces"), rule(own, read, "proxyclasses"), rule(own, []string{"patch"}, "proxyclasses/status"),
		}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta(""), RoleRef: ref("ClusterRole"), Subjects: subjects},
		&rbacv1.Role{ObjectMeta: meta(ns), Rules: []rbacv1.PolicyRule{
			rule(corev1.GroupName, read, "services"), rule("discovery.k8s.io", read, "endpointslices"),
			rule(own, read, "backendpolicies", "proxyroutes"), rule(own, []string{"patch"}, "backendpolicies/status", "proxyroutes/status"),
			rule("gateway.networking.k8s.io", read, "referencegrants"),
		}},
		&rbacv1.RoleBinding{ObjectMeta: meta(ns), RoleRef: ref("Role"), Subjects: subjects},
		&rbacv1.Role{ObjectMeta: meta(home), Rules: []rbacv1.PolicyRule{
			rule("coordination.k8s.io", []string{"create", "get", "update"}, "leases"), rule("discovery.k8s.io", read, "endpointslices"),
		}},
		&rbacv1.RoleBinding{ObjectMeta: meta(home), RoleRef: ref("Role"), Subjects: subjects},
	}
}
