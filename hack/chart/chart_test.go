package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestTheChartPassesHelmsLint(t *testing.T) {
	for name, file := range valuesFiles(t) {
		if out, err := helm(t, "lint", "--strict", "--values", file, chart); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestTheChartRendersToItsGoldenFiles(t *testing.T) {
	for name, file := range valuesFiles(t) {
		var b strings.Builder
		for _, o := range render(t, "--values", file) {
			if o.GetKind() == "CustomResourceDefinition" {
				continue // another test's; thousands of lines
			}
			if o.GetKind() == "ConfigMap" && at(o, "data", "ferrum-proxy.json") != nil {
				o.Object["data"] = "the dashboard"
			}
			text, err := yaml.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "---\n%s", text)
		}
		golden := filepath.Join("testdata", "golden", name+".yaml")
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s (rewrite with -update): -want +got\n%s", name, d)
		}
	}
}

// An API server drops a field that it does not know, with a warning that nobody
// reads.
func TestEveryObjectHasOnlyFieldsThatItsKindHas(t *testing.T) {
	decoder := serializer.NewCodecFactory(kubetest.Scheme(), serializer.EnableStrict).UniversalDeserializer()
	for name, file := range valuesFiles(t) {
		for _, o := range render(t, "--values", file) {
			if strings.HasPrefix(o.GetAPIVersion(), "monitoring.coreos.com/") {
				continue // the cluster tests apply these to a real operator
			}
			text, err := yaml.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decoder.Decode(text, nil, nil); err != nil && !runtime.IsMissingKind(err) {
				t.Errorf("%s: %s %s: %v", name, o.GetKind(), o.GetName(), err)
			}
		}
	}
}

func TestTheSchemaRefusesWrongValues(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"replica=3", "replica"},
		{"replicas=many", "replicas"},
		{"kind=StatefulSet", "kind"},
		{"image.tagg=x", "tagg"},
		{"image.digest=latest", "digest"},
		{"image.pullPolicy=Sometimes", "pullPolicy"},
		{"config.drain.delay=5", "delay"},
		{"config.drain.grace=5s", "grace"},
		{"config.http.address=8080", "address"},
		{"config.log.level=trace", "level"},
		{"config.routes.x=1", "routes"},
		{"config.classes={Edge}", "classes"},
		{"config.snapshot.directory=here", "directory"},
		{"snapshotVolume.hostPath.path=/var/lib/ferrum", "snapshotVolume"}, // two sources
		{"watchNamespaces={Shop}", "watchNamespaces"},
		{"rbac.scope=Everything", "scope"},
		{"service.type=ExternalName", "type"},
		{"service.ports.http.port=0", "port"},
		{"service.healthCheckNodePort=70000", "healthCheckNodePort"},
		{"hostPort=70000", "hostPort"},
		{"podDisruptionBudget.unhealthyPodEvictionPolicy=Never", "unhealthyPodEvictionPolicy"},
		{"serviceMonitor.interval=fast", "interval"},
		{"class.name=", "name"},
		{"nameOverride=a.b", "nameOverride"}, // of a Service too
		{"fullnameOverride=a.b", "fullnameOverride"},
		{"fullnameOverride=1a", "fullnameOverride"},
		{"autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=null", "autoscaling"}, // by nothing
		{"autoscaling.enabled=true,autoscaling.minReplicas=11", "minReplicas 11 is above autoscaling.maxReplicas 10"},
		{"hostNetwork=true,hostPort=80", "hostPort 80 is not the port 8080"},
		{"rbac.scope=Namespaced", "needs watchNamespaces"},
		{"podDisruptionBudget.maxUnavailable=null", "needs maxUnavailable or minAvailable"},
		{"service.ipFamilies={IPv5}", "ipFamilies"},
		{"kind=DaemonSet,hostPort=80,updateStrategy.rollingUpdate.maxSurge=1", "cannot have maxSurge"},
	} {
		_, err := helm(t, "template", "x", chart, "--set", c.set)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--set %s: got %v, want an error about %s", c.set, err, c.want)
		}
	}
}

func TestABudgetThatHoldsUpEveryDrainOfANodeIsWarnedOf(t *testing.T) {
	for set, warns := range map[string]bool{
		"replicas=1": false, "replicas=1,podDisruptionBudget.minAvailable=1": true, "podDisruptionBudget.minAvailable=1": false,
		"podDisruptionBudget.minAvailable=100%": true, "podDisruptionBudget.minAvailable=50%": false, "podDisruptionBudget.maxUnavailable=0": true,
		"kind=DaemonSet,podDisruptionBudget.minAvailable=100%":                                      false,
		"autoscaling.enabled=true,podDisruptionBudget.minAvailable=2":                               true,
		"autoscaling.enabled=true,autoscaling.minReplicas=3,podDisruptionBudget.minAvailable=2":     false,
		"podDisruptionBudget.enabled=false,podDisruptionBudget.maxUnavailable=0,crds.enabled=false": false,
	} {
		out, err := helm(t, "install", "ferrum", chart, "--dry-run=client", "--set", set)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out, "WARNING: podDisruptionBudget"); got != warns {
			t.Errorf("%s: warned %v", set, got)
		}
	}
}

// A name of digits is a number to YAML, and no label.
func TestAReleaseMayBeNamedLikeANumber(t *testing.T) {
	out, err := helm(t, "template", "1.5", chart)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, out) {
		for _, path := range [][]string{{"metadata", "labels"}, {"metadata", "annotations"}, {"spec", "selector"}, {"spec", "template", "metadata", "labels"}} {
			m, _ := at(o, path...).(map[string]any)
			for k, v := range m {
				_, nested := v.(map[string]any) // matchLabels
				if _, ok := v.(string); !ok && !nested {
					t.Errorf("%s: %s of %s is %v", o.GetKind(), k, strings.Join(path, "."), v)
				}
			}
		}
		if o.GetKind() == "Service" && strings.Contains(o.GetName(), ".") {
			t.Errorf("a Service is named %s", o.GetName())
		}
	}
}

func TestAPodMayTakeAsLongToEndAsItsProcessWaits(t *testing.T) {
	for _, c := range []struct {
		set  string
		want int64
	}{
		{"", 5 + 60 + 10},
		{"config.drain.upgradedTimeout=0s", 5 + 30 + 10},
		{"config.drain.delay=500ms,config.drain.timeout=1m30s", 1 + 90 + 10},
		{"config.drain.delay=0s,config.drain.timeout=1.5h", 5400 + 10},
		{"config.drain.delay=1h1m1s,config.drain.timeout=1h", 3661 + 3600 + 10},
		{"lifecycle.preStop.sleep.seconds=20", 20 + 5 + 60 + 10},
		{"lifecycle.preStop.exec.command={sync}", 5 + 60 + 10},
		{"terminationGracePeriodSeconds=7", 7},
		{"terminationGracePeriodSeconds=0", 0},
	} {
		d := find(t, render(t, "--set", c.set), "Deployment", "")
		if got := at(d, "spec", "template", "spec", "terminationGracePeriodSeconds"); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%q: %v seconds, want %d", c.set, got, c.want)
		}
	}
}

func TestPodsAreReplacedWhenTheirConfigurationChanges(t *testing.T) {
	sum := func(set string) any {
		d := find(t, render(t, "--set", set), "Deployment", "")
		return at(d, "spec", "template", "metadata", "annotations", "checksum/config")
	}
	before := sum("replicas=1")
	if after := sum("replicas=2"); after != before {
		t.Error("the number of replicas is in the checksum")
	}
	if after := sum("config.log.level=debug"); after == before {
		t.Error("the level of the log is not in the checksum")
	}
}

// Both ways of installing name a directory, on a root file system that cannot be
// written: a volume has to be there.
func TestTheSnapshotIsInAVolumeWhereTheProcessLooksForIt(t *testing.T) {
	mounted := func(o *object) map[string]any {
		pod := at(o, "spec", "template", "spec").(map[string]any)
		mounts := make(map[string]any)
		for _, m := range pod["containers"].([]any)[0].(map[string]any)["volumeMounts"].([]any) {
			m := m.(map[string]any)
			for _, v := range pod["volumes"].([]any) {
				if v := v.(map[string]any); v["name"] == m["name"] && m["readOnly"] == nil {
					mounts[m["mountPath"].(string)] = v["emptyDir"]
				}
			}
		}
		return mounts
	}
	memory := map[string]any{"medium": "Memory"}
	for _, c := range []struct {
		set  string
		want map[string]any
	}{
		{"", map[string]any{"/var/lib/ferrum": map[string]any{}}},
		{"config.snapshot.directory=", map[string]any{}},
		{"config.snapshot.directory=/elsewhere,snapshotVolume.emptyDir.medium=Memory", map[string]any{"/elsewhere": memory}},
		{"snapshotVolume.emptyDir=null,snapshotVolume.hostPath.path=/x", map[string]any{"/var/lib/ferrum": nil}},
	} {
		all := render(t, "--set", c.set)
		if d := cmp.Diff(c.want, mounted(find(t, all, "Deployment", ""))); d != "" {
			t.Errorf("%q: -want +got\n%s", c.set, d)
		}
	}
	d := find(t, kustomize(t, root+"/config/default"), "Deployment", "")
	if diff := cmp.Diff(map[string]any{"/var/lib/ferrum": map[string]any{}}, mounted(d)); diff != "" {
		t.Errorf("config/: -want +got\n%s", diff)
	}
	if args := fmt.Sprint(at(d, "spec", "template", "spec", "containers").([]any)[0].(map[string]any)["args"]); !strings.Contains(args, "--snapshot-directory=/var/lib/ferrum") {
		t.Errorf("config/ runs the process with %s", args)
	}
}

func TestTheChartBringsTheCRDsThatStayUnlessToldOtherwise(t *testing.T) {
	for set, want := range map[string]string{"crds.keep=true": "keep", "crds.keep=false": ""} {
		var names []string
		for _, o := range render(t, "--set", set) {
			if o.GetKind() != "CustomResourceDefinition" {
				continue
			}
			names = append(names, o.GetName())
			if got := o.GetAnnotations()["helm.sh/resource-policy"]; got != want {
				t.Errorf("%s: %s has the policy %q", set, o.GetName(), got)
			}
			original := objects(t, readFile(t, root+"/config/crd/bases/ferrum.dev_"+strings.TrimSuffix(o.GetName(), ".ferrum.dev")+".yaml"))[0]
			if d := cmp.Diff(original.Object["spec"], o.Object["spec"]); d != "" {
				t.Errorf("%s: -config/crd +chart\n%s", o.GetName(), d)
			}
		}
		if len(names) != 3 {
			t.Errorf("%s: the CRDs %v", set, names)
		}
	}
	for _, o := range render(t, "--set", "crds.enabled=false") {
		if o.GetKind() == "CustomResourceDefinition" {
			t.Errorf("%s in spite of crds.enabled=false", o.GetName())
		}
	}
}

func TestTheClassIsAHookOnlyWhereItsKindIsNotKnownYet(t *testing.T) {
	for _, c := range []struct {
		args []string
		hook string
	}{
		{nil, "post-install"},
		{[]string{"--api-versions", "ferrum.dev/v1alpha1/ProxyClass"}, ""},
		{[]string{"--set", "crds.enabled=false"}, ""},
	} {
		var hooks []string
		for _, o := range render(t, c.args...) {
			if o.GetKind() != "ProxyClass" {
				continue
			}
			a := o.GetAnnotations()
			hooks = append(hooks, a["helm.sh/hook"])
			if a["helm.sh/hook"] == "pre-delete" {
				continue
			}
			if a["helm.sh/resource-policy"] != "keep" || a["meta.helm.sh/release-name"] != "ferrum" || a["ferrum.dev/is-default-class"] != "true" {
				t.Errorf("%v: the class has the annotations %v", c.args, a)
			}
		}
		slices.Sort(hooks)
		want := []string{c.hook, "pre-delete"}
		slices.Sort(want)
		if !slices.Equal(hooks, want) {
			t.Errorf("%v: classes with the hooks %q, want %q", c.args, hooks, want)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
