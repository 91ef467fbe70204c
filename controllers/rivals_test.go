package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// rival starts a second installation in the namespace of the first.
func rival(o *controllers.Options) { o.LeaseName = "rival-status-writer" }

// Two installations that serve the routes of one class wrote some 45 statuses a
// second.
func TestTwoInstallationsThatDisagreeOnARouteWriteSeldomAndSaySo(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	create(t, c, newClass(ns))
	within := func(o *controllers.Options) { o.Namespaces = []string{ns} } // the other tests' routes are no news
	content, refused := run(t, s.Config(), ns, "content", within), run(t, s.Config(), ns, "refused", within, rival)
	refused.failWith(errors.New("no room"))
	leads(t, content, 1)
	leads(t, refused, 1)
	service, slice := newBackend(ns, "web", "10.0.0.1")
	create(t, c, service, slice, newRoute(ns, "web", host(ns, "a"), "web"))

	eventually(t, func(context.Context) error {
		for r, other := range map[*replica]string{content: ns + "/rival-status-writer", refused: ns + "/" + controllers.LeaseName} {
			if text := fmt.Sprintf(`"object"="%s/web" "manager"="%s" "fields"=["Programmed"`, ns, other); !r.log.has(text) {
				return fmt.Errorf("nobody has logged %s", text)
			}
		}
		return nil
	})
	// As long as so many other writes take they would go on; 12 are those of minutes.
	for i := range 200 {
		service.Labels = map[string]string{"turn": strconv.Itoa(i)} // which no build looks at
		if err := c.Update(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*replica{content, refused} {
		if n := r.patches.Load(); n > 12 {
			t.Errorf("%d writes", n)
		}
	}
}

func TestAnInstallationLeavesTheRoutesOfOtherClassesAlone(t *testing.T) {
	s := kubetest.Shared(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	other := s.Namespace(t, nil)
	create(t, c, newClass(ns), newClass(other))
	mine := run(t, s.Config(), ns, "mine", func(o *controllers.Options) { o.Classes = []string{ns} })
	theirs := run(t, s.Config(), ns, "theirs", rival, func(o *controllers.Options) { o.Classes = []string{other} })
	theirs.failWith(errors.New("no room"))
	service, slice := newBackend(ns, "web", "10.0.0.1")
	route := newRoute(ns, "web", host(ns, "a"), "web")
	away := newRoute(ns, "away", host(ns, "a"), "web") // which would be in conflict
	away.Spec.ClassName = new(other)
	create(t, c, service, slice, route, away)

	routeStatus(t, c, away, "Programmed=False/Pending")
	routeStatus(t, c, route, "Programmed=True/Programmed", "Conflicted=False/NoConflict")
	p := mine.waitFor(t, "the route", func(p plan.Plan) bool { return routesOf(p, ns)["web"] != "" })
	if len(routesOf(p, ns)) != 1 {
		t.Errorf("the plan has the routes %v", routesOf(p, ns))
	}
	for _, name := range []string{ns, other} {
		eventually(t, func(ctx context.Context) error {
			var class v1alpha1.ProxyClass
			if err := c.Get(ctx, client.ObjectKey{Name: name}, &class); err != nil {
				return err
			}
			return hasConditions(class.Status.Conditions, class.Generation, []string{"Accepted=True/Accepted"})
		})
	}
}
