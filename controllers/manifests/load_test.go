package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

func classNamed(name string) string {
	return "apiVersion: ferrum.dev/v1alpha1\nkind: ProxyClass\nmetadata: {name: " + name + "}\n"
}

// classesOf returns the names of the classes, which are what most tests here
// tell files by.
func classesOf(classes []*v1alpha1.ProxyClass) string {
	var names []string
	for _, c := range classes {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestLoadedObjectsAreAsAnAPIServerHasThem(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), `
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata:
  name: web
  uid: 8f6a6b3c-0000-0000-0000-000000000000
  resourceVersion: "7"
  generation: 3
  creationTimestamp: "2026-01-02T03:04:05Z"
  managedFields: [{manager: kubectl, operation: Update, apiVersion: ferrum.dev/v1alpha1}]
spec:
  hostnames: null
  rules:
  - matches: [{path: {value: /a}, headers: [{name: x, value: "1"}]}, {path: {}}]
    backendRefs: [{name: web, port: 80}, {name: web, port: http}]
    backendPolicy: {loadBalancing: {}}
status: {conditions: [{type: Accepted, status: "True", reason: A, message: b, lastTransitionTime: "2026-01-02T03:04:05Z"}]}
---
apiVersion: ferrum.dev/v1alpha1
kind: ProxyClass
metadata: {name: ferrum, namespace: ignored}
---
apiVersion: v1
kind: Namespace
metadata: {name: given, labels: {team: a}}
---
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: other, namespace: shop}
spec: {rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: v1
kind: Secret
metadata: {name: tls}
stringData: {a: b}
`)
	s, problems := Load(dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if !s.AllowLocalEndpoints {
		t.Error("local endpoints are not allowed")
	}
	r := s.Routes[0]
	if r.Namespace != metav1.NamespaceDefault || s.Classes[0].Namespace != "" {
		t.Errorf("namespaces %q and %q", r.Namespace, s.Classes[0].Namespace)
	}
	if r.UID != "" || r.ResourceVersion != "" || r.Generation != 0 || r.ManagedFields != nil || len(r.Status.Conditions) > 0 {
		t.Errorf("what an API server assigns is still there: %+v", r)
	}
	if r.CreationTimestamp.UTC().Year() != 2026 {
		t.Errorf("creationTimestamp %v", r.CreationTimestamp)
	}
	rule := r.Spec.Rules[0]
	if m := rule.Matches[0]; m.Path.Type != v1alpha1.PathMatchPathPrefix || m.Headers[0].Type != v1alpha1.ValueMatchExact {
		t.Errorf("types of the first match: %+v", m)
	}
	if m := rule.Matches[1]; m.Path.Value != "/" {
		t.Errorf("path of the second match: %+v", m.Path)
	}
	if w := rule.BackendRefs[1].Weight; w == nil || *w != 1 {
		t.Errorf("weight %v, want the default", w)
	}
	if lb := rule.BackendPolicy.LoadBalancing.Type; lb != v1alpha1.LoadBalancingLeastRequest {
		t.Errorf("load balancing %q, want the default", lb)
	}
	want := map[string]map[string]string{
		"given":   {corev1.LabelMetadataName: "given", "team": "a"},
		"default": {corev1.LabelMetadataName: "default"},
		"shop":    {corev1.LabelMetadataName: "shop"},
	}
	if len(s.Namespaces) != len(want) {
		t.Errorf("%d namespaces, want %d", len(s.Namespaces), len(want))
	}
	for _, n := range s.Namespaces {
		for k, v := range want[n.Name] {
			if n.Labels[k] != v {
				t.Errorf("namespace %s: label %s = %q, want %q", n.Name, k, n.Labels[k], v)
			}
		}
	}
}

func TestLoadFindsManifestsAtAnyDepthAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yml", "c/d/e.yaml", "c.d/f.yaml"} {
		write(t, filepath.Join(dir, name), classNamed(strings.NewReplacer("/", "-", ".", "-").Replace(name)))
	}
	for _, name := range []string{"a.yaml~", "#a.yaml#", ".a.yaml.swp", ".git/a.yaml", "..data/a.yaml", "README.md", "a.yaml.bak"} {
		write(t, filepath.Join(dir, name), "not: [a manifest")
	}
	write(t, filepath.Join(dir, "any-name"), classNamed("named"))
	link(t, "any-name", filepath.Join(dir, "link.yaml"))
	link(t, "..", filepath.Join(dir, "c", "circle"))

	s, problems := Load(dir)
	if got, want := classesOf(s.Classes), "a-yaml b-yml c-d-e-yaml c-d-f-yaml named"; got != want || len(problems) > 0 {
		t.Errorf("classes %q, want %q; %v", got, want, problems)
	}
	s, problems = Load(filepath.Join(dir, "any-name"), filepath.Join(dir, "c"), filepath.Join(dir, "c", "d", "e.yaml"))
	// The link in c leads up to dir, and so to everything again.
	if got := classesOf(s.Classes); !strings.Contains(got, "c-d-e-yaml") || !strings.Contains(got, "named") {
		t.Errorf("classes of named paths %q; %v", got, problems)
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatCannotBeReadAreReported(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "good.yaml"), classNamed("good"))
	link(t, "nowhere", filepath.Join(dir, "broken.yaml"))
	link(t, "nowhere", filepath.Join(dir, "other-broken-link"))
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(dir, "large.yaml"))
	if err == nil {
		err = large.Truncate(maxFileBytes + 1)
	}
	if err == nil {
		err = large.Close()
	}
	if err != nil {
		t.Fatal(err)
	}

	s, problems := Load(dir, filepath.Join(dir, "missing"))
	if got := classesOf(s.Classes); got != "good" {
		t.Errorf("classes %q", got)
	}
	want := []string{
		"broken.yaml: no such file or directory",
		"large.yaml: is larger than 64 MiB",
		"missing: no such file or directory",
		"pipe.yaml: is not a regular file",
	}
	var got []string
	for _, p := range problems {
		got = append(got, strings.TrimPrefix(p.String(), dir+"/"))
		if p.Severity != Error {
			t.Errorf("%v is a %v", p, p.Severity)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLinesOfFieldsAreFound(t *testing.T) {
	text := []byte("a:\n  b:\n  - c: 1\n  - &x\n    d.e: 2\nf: {g: 3,\n  h: 4}\ni: *x\n")
	x := newLineIndex(text, 10)
	for path, want := range map[string]int{
		"": 11, "a": 11, "a.b": 12, "a.b[0]": 13, "a.b[0].c": 13, "a.b[1]": 14, "a.b[1][d.e]": 15, "f.g": 16, "f.h": 17,
		"i": 18, "i[d.e]": 15, "a.b[7]": 12, "a.b[x]": 12, "a.missing.deep": 11, "missing": 11, "a..b": 12, "a[": 11, "[": 11, "]": 11, "a.b[-1]": 12,
	} {
		if got := x.of(path); got != want {
			t.Errorf("%q is on line %d, want %d", path, got, want)
		}
	}
	if got := newLineIndex([]byte("a: ["), 4).of("a"); got != 5 {
		t.Errorf("in what does not parse: line %d, want the first", got)
	}
}

func TestDocumentsAreSplitAtMarkersOnly(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          nil,
		"---\n---\n# only\n---\n":   nil,
		"a: 1":                      {"1 a: 1"},
		"\ufeffa: 1":                {"1 a: 1"},
		"a: 1\n---\nb: 2\n":         {"1 a: 1\n", "2 \nb: 2\n"},
		"a: 1\r\n---\r\nb: 2\r\n":   {"1 a: 1\r\n", "2 \r\nb: 2\r\n"},
		"--- {a: 1}\n...\nb: 2\n":   {"1  {a: 1}\n", "3 b: 2\n"},
		"a: |\n  ---\n----\n":       {"1 a: |\n  ---\n----\n"},
		"%YAML 1.1\n---\na: 1\n...": {"2 \na: 1\n"},
		"a: 1\n--- # one\n# two\n":  {"1 a: 1\n"},
		"a: 1\n\n\n---\tb\n---":     {"1 a: 1\n\n\n", "4 \tb\n"},
	} {
		var got []string
		for _, d := range splitYAML([]byte(text)) {
			got = append(got, fmt.Sprintf("%d %s", d.line, d.text))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
}
