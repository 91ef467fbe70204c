package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// kustomize returns the objects of a kustomization that has resources and nothing
// else; config/default and all below it are such.
func kustomize(t *testing.T, dir string) (all []*object) {
	t.Helper()
	var k map[string]any
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(dir, "kustomization.yaml"))), &k); err != nil {
		t.Fatal(err)
	}
	for field := range k {
		if !slices.Contains([]string{"apiVersion", "kind", "resources"}, field) {
			t.Fatalf("%s has the field %s, which this test does not read", dir, field)
		}
	}
	for _, r := range k["resources"].([]any) {
		path := filepath.Join(dir, r.(string))
		if strings.HasSuffix(path, ".yaml") {
			all = append(all, objects(t, readFile(t, path))...)
		} else {
			all = append(all, kustomize(t, path)...)
		}
	}
	return all
}

// essential is an object without what may differ: who made it, and the labels by
// which both ways of installing find their own.
func essential(t *testing.T, o *object) map[string]any {
	t.Helper()
	o = o.DeepCopy()
	metadata := map[string]any{"name": o.GetName(), "namespace": o.GetNamespace()}
	if v, ok := o.GetAnnotations()["ferrum.dev/is-default-class"]; ok {
		metadata["default"] = v
	}
	if v, ok := o.GetLabels()["grafana_dashboard"]; ok {
		metadata["dashboard"] = v // by which Grafana's sidecar finds it
	}
	o.Object["metadata"] = metadata
	for _, path := range [][]string{
		{"spec", "selector"},
		{"spec", "template", "metadata"},
	} {
		unstructured.RemoveNestedField(o.Object, path...)
	}
	if o.GetKind() == "Deployment" {
		essentialPod(t, o.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any))
	}
	if rules, ok := o.Object["rules"].([]any); ok {
		o.Object["rules"] = rights(rules)
	}
	if ref, ok := o.Object["roleRef"].(map[string]any); ok {
		ref["name"] = strings.TrimPrefix(ref["name"].(string), "ferrum-system:")
	}
	return o.Object
}

// essentialPod removes the image, and the ways that the settings go: the chart's
// through a file, those of config/ on the command line.
func essentialPod(t *testing.T, pod map[string]any) {
	t.Helper()
	delete(pod, "volumes")
	for _, c := range pod["topologySpreadConstraints"].([]any) {
		delete(c.(map[string]any), "labelSelector")
	}
	c := pod["containers"].([]any)[0].(map[string]any)
	for _, field := range []string{"image", "imagePullPolicy", "args", "volumeMounts"} {
		delete(c, field)
	}
}

// rights returns a rule for each verb on each resource, sorted.
func rights(rules []any) (all []any) {
	var texts []string
	for _, r := range rules {
		rule := r.(map[string]any)
		names, _, _ := unstructured.NestedStringSlice(rule, "resourceNames")
		groups, _, _ := unstructured.NestedStringSlice(rule, "apiGroups")
		resources, _, _ := unstructured.NestedStringSlice(rule, "resources")
		verbs, _, _ := unstructured.NestedStringSlice(rule, "verbs")
		for _, g := range groups {
			for _, res := range resources {
				for _, v := range verbs {
					texts = append(texts, strings.Join([]string{v, res, g, strings.Join(names, ",")}, " "))
				}
			}
		}
	}
	slices.Sort(texts)
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

// `make verify` runs this one, too.
func TestTheChartAndTheKustomizeBasesInstallTheSame(t *testing.T) {
	key := func(o *object) string { return o.GetKind() + " " + o.GetName() }
	inChart := make(map[string]*object)
	for _, o := range render(t, "--set", "fullnameOverride=ferrum,serviceMonitor.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true") {
		// The names of what is in no namespace begin with that of the release.
		o.SetName(strings.TrimPrefix(o.GetName(), "ferrum-system:"))
		inChart[key(o)] = o
	}
	var inConfig []*object
	for _, base := range []string{"default", "class", "prometheus", "podmonitor", "grafana"} {
		inConfig = append(inConfig, kustomize(t, filepath.Join(root, "config", base))...)
	}
	seen := make(map[string]bool)
	for _, o := range inConfig {
		if seen[key(o)] {
			continue // the alerts, which are in two of them
		}
		seen[key(o)] = true
		switch o.GetKind() {
		case "Namespace", // `helm install --create-namespace` makes it
			"CustomResourceDefinition": // another test's
			continue
		}
		c := inChart[key(o)]
		if c == nil {
			t.Errorf("the chart has no %s", key(o))
			continue
		}
		if d := cmp.Diff(essential(t, o), essential(t, c)); d != "" {
			t.Errorf("%s: -config +chart\n%s", key(o), d)
		}
		delete(inChart, key(o))
	}
	for k := range inChart {
		kind, _, _ := strings.Cut(k, " ")
		if k != "ConfigMap ferrum" && !slices.Contains([]string{"CustomResourceDefinition", "Lease", "Pod"}, kind) { // the file of settings
			t.Errorf("config/ has no %s", k)
		}
	}
}

func TestTheMonitorsOfConfigSelectWhatIsScraped(t *testing.T) {
	m := find(t, kustomize(t, root+"/config/prometheus"), "ServiceMonitor", "")
	service := find(t, kustomize(t, root+"/config/default"), "Service", "ferrum-admin")
	if d := cmp.Diff(at(m, "spec", "selector", "matchLabels"), any(labelsOf(service))); d != "" {
		t.Errorf("ServiceMonitor: -selector +labels\n%s", d)
	}
	m = find(t, kustomize(t, root+"/config/podmonitor"), "PodMonitor", "")
	d := find(t, kustomize(t, root+"/config/default"), "Deployment", "ferrum")
	if d := cmp.Diff(at(m, "spec", "selector", "matchLabels"), at(d, "spec", "template", "metadata", "labels")); d != "" {
		t.Errorf("PodMonitor: -selector +labels\n%s", d)
	}
}

func TestTheProcessTakesTheFileThatTheChartWrites(t *testing.T) {
	c := find(t, render(t, "--set", "watchNamespaces={shop,blog},adminToken.secretName=x,redisPassword.secretName=y,config.redis.address=redis:6379"), "ConfigMap", "")
	var got map[string]any
	text, _ := at(c, "data", "config.yaml").(string)
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"admin":           map[string]any{"address": ":9090", "tokenFile": "/etc/ferrum/admin/token"},
		"drain":           map[string]any{"delay": "5s", "timeout": "30s", "upgradedTimeout": "60s"},
		"http":            map[string]any{"address": ":8080"},
		"redis":           map[string]any{"address": "redis:6379", "passwordFile": "/etc/ferrum/redis/password"},
		"snapshot":        map[string]any{"directory": "/var/lib/ferrum"},
		"watchNamespaces": []any{"shop", "blog"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
