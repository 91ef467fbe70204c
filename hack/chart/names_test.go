package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// nameOf identifies an object in a cluster.
func nameOf(o *object) string {
	return strings.Join([]string{o.GetKind(), o.GetNamespace(), o.GetName()}, " ")
}

// `helm template | kubectl apply` takes all that is rendered for objects, hooks as
// well, in their order: of two of one name the last would win.
func TestObjectsThatAreRenderedTwiceSayTheSame(t *testing.T) {
	const isDefault = "ferrum.dev/is-default-class"
	for name, file := range valuesFiles(t) {
		all := make(map[string]*object)
		for _, o := range render(t, "--values", file) {
			first := all[nameOf(o)]
			if first == nil {
				all[nameOf(o)] = o
				continue
			}
			if d := cmp.Diff(first.Object["spec"], o.Object["spec"]); d != "" {
				t.Errorf("%s: %s: -first +second\n%s", name, nameOf(o), d)
			}
			if a, b := first.GetAnnotations()[isDefault], o.GetAnnotations()[isDefault]; a != b {
				t.Errorf("%s: %s is %q the default class, then %q", name, nameOf(o), a, b)
			}
		}
	}
}

// Two of one name in two namespaces, two in one namespace; what is left to share is
// what README.md says to turn off.
func TestReleasesInOneClusterShareNoNames(t *testing.T) {
	owner := make(map[string]string)
	for _, c := range []struct{ release, namespace string }{{"edge", "a"}, {"edge", "b"}, {"inner", "a"}} {
		out, err := helm(t, "template", c.release, chart, "--namespace", c.namespace, "--values", chart+"/ci/namespaced-values.yaml", "--set", "serviceAccount.name=")
		if err != nil {
			t.Fatal(err)
		}
		who := c.namespace + "/" + c.release
		for _, o := range objects(t, out) {
			if other := owner[nameOf(o)]; other != "" {
				t.Errorf("%s is of the release %s and of %s", nameOf(o), other, who)
			}
			owner[nameOf(o)] = who
		}
	}
	if len(owner) < 3*10 {
		t.Errorf("only %d objects", len(owner))
	}
}

func TestTheProcessElectsItsWriterWithTheLeaseThatItHasRightsTo(t *testing.T) {
	all := render(t)
	lease := find(t, all, "Lease", "").GetName()
	pod := at(find(t, all, "Deployment", ""), "spec", "template", "spec", "containers").([]any)[0].(map[string]any)
	if env := fmt.Sprint(pod["env"]); !strings.Contains(env, "map[name:LEASE_NAME value:"+lease+"]") {
		t.Errorf("the Lease of the release is %s, the container has the environment %s", lease, env)
	}
	if rules := fmt.Sprint(find(t, all, "Role", "").Object["rules"]); !strings.Contains(rules, "resourceNames:["+lease+"]") {
		t.Errorf("the Lease of the release is %s, the rights are %s", lease, rules)
	}
}

// A Service's address in an environment variable is one without brackets; the
// tcp:// form has them.
func TestTheTestOfAReleaseReachesItsServiceOverEachAddressFamily(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"", "$(FERRUM_FERRUM_PROXY_PORT_80_TCP)"},
		{"fullnameOverride=edge,service.ports.http.port=8080", "$(EDGE_PORT_8080_TCP)"},
		{"service.type=ClusterIP,service.clusterIP=None,config.http.address=:8000", "http://ferrum-ferrum-proxy.ferrum-system.svc:8000/"},
	} {
		pod := find(t, render(t, "--set", c.set), "Pod", "")
		args := at(pod, "spec", "containers").([]any)[0].(map[string]any)["args"].([]any)
		if got := args[len(args)-1]; got != c.want {
			t.Errorf("%q: the test asks %s, want %s", c.set, got, c.want)
		}
	}
}

func TestANetworkPolicyLetsTheTestOfAReleaseIn(t *testing.T) {
	all := render(t, "--set", "networkPolicy.enabled=true,networkPolicy.httpFrom[0].ipBlock.cidr=192.0.2.0/24")
	rule := at(find(t, all, "NetworkPolicy", ""), "spec", "ingress").([]any)[0].(map[string]any)
	var matched bool
	for _, peer := range rule["from"].([]any) {
		selector, _ := peer.(map[string]any)["podSelector"].(map[string]any)
		matched = matched || selector != nil && cmp.Equal(selector["matchLabels"], any(labelsOf(find(t, all, "Pod", ""))))
	}
	if !matched {
		t.Errorf("the Pod of the test, with the labels %v, is not among %v", find(t, all, "Pod", "").GetLabels(), rule["from"])
	}
}

func labelsOf(o *object) map[string]any {
	labels := make(map[string]any)
	for k, v := range o.GetLabels() {
		labels[k] = v
	}
	return labels
}

func TestTheNotesSayWhatARoleOfOnesOwnHasToHave(t *testing.T) {
	const warning = "WARNING: Programmed speaks for one replica"
	for set, want := range map[string]bool{
		"rbac.create=false":                        false, // all namespaces are watched: the role has it
		"watchNamespaces={shop}":                   false,
		"rbac.create=false,watchNamespaces={shop}": true,
		"rbac.create=false,watchNamespaces={shop},config.replicas.service=ferrum-system/x": false,
	} {
		out, err := helm(t, "install", "ferrum", chart, "--namespace", "ferrum-system", "--dry-run=client", "--set", set)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out, warning); got != want {
			t.Errorf("%s: the notes warn: %t, want %t", set, got, want)
		}
	}
}
