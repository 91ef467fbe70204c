package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	root  = "../.."
	chart = root + "/charts/ferrum-proxy"
)

// helmPath is HELM, or what hack/kube/helm.sh has built before: a build takes
// minutes, more than a test may.
var helmPath = sync.OnceValues(func() (string, error) {
	out, err := exec.Command(root+"/hack/kube/helm.sh", "--no-build").Output()
	if err != nil {
		return "", errors.New("no helm: run `make test`, which builds one, or set HELM")
	}
	return strings.TrimSpace(string(out)), nil
})

// helm runs a command of helm and returns what it writes.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+dir, "HELM_CACHE_HOME="+dir, "HELM_DATA_HOME="+dir, "KUBECONFIG=/dev/null")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.New(err.Error() + ": " + stderr.String() + stdout.String())
	}
	return stdout.String(), nil
}

// object is one of the objects that a chart renders to.
type object = unstructured.Unstructured

// render returns the objects of `helm template` with further arguments.
func render(t *testing.T, args ...string) []*object {
	t.Helper()
	out, err := helm(t, append([]string{"template", "ferrum", chart, "--namespace", "ferrum-system"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, out)
}

// objects reads a stream of YAML documents.
func objects(t *testing.T, stream string) (all []*object) {
	t.Helper()
	for _, doc := range strings.Split("\n"+stream, "\n---\n") {
		o := &object{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// find returns the only object of a kind with a name; "" stands for any name.
func find(t *testing.T, all []*object, kind, name string) *object {
	t.Helper()
	var found []*object
	for _, o := range all {
		if o.GetKind() == kind && (name == "" || o.GetName() == name) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s named %q", len(found), kind, name)
	}
	return found[0]
}

// at returns a field of an object; nil if it is absent.
func at(o *object, path ...string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	return v
}

// valuesFiles are the sets of values that the chart is tried with, by name.
func valuesFiles(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no values files", err)
	}
	byName := make(map[string]string)
	for _, f := range files {
		byName[strings.TrimSuffix(filepath.Base(f), "-values.yaml")] = f
	}
	return byName
}
