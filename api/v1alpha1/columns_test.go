package v1alpha1_test

import (
	"bytes"
	"io/fs"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/config/crd"
)

// shown is an object that has something for every column of every kind.
const shown = `
metadata: {creationTimestamp: "2026-01-01T00:00:00Z", annotations: {ferrum.dev/is-default-class: "true"}}
spec: {hostnames: [a.example.com], className: ferrum, targetRefs: [{name: app}]}
status:
  replicas: {programmed: 2, total: 3}
  conditions:
  - {type: Accepted, status: "True"}
  - {type: ResolvedRefs, status: "True"}
  - {type: Programmed, status: "False"}
  - {type: BackendsHealthy, status: "True"}
  - {type: Conflicted, status: "False"}
`

func TestEachColumnOfKubectlGetShowsAFieldThatTheKindHas(t *testing.T) {
	var object any
	if err := yaml.Unmarshal([]byte(shown), &object); err != nil {
		t.Fatal(err)
	}
	columns := make(map[string]string) // of ProxyRoute
	err := fs.WalkDir(crd.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(crd.FS, path)
		if err != nil {
			return err
		}
		var c apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &c); err != nil {
			return err
		}
		for _, column := range c.Spec.Versions[0].AdditionalPrinterColumns {
			p := jsonpath.New(column.Name)
			var b bytes.Buffer
			if err := p.Parse("{" + column.JSONPath + "}"); err != nil {
				t.Errorf("%s, %s: %v", path, column.Name, err)
			} else if err := p.Execute(&b, object); err != nil || b.Len() == 0 {
				t.Errorf("%s, %s shows %q, %v", path, column.Name, b.String(), err)
			}
			if c.Spec.Names.Kind == "ProxyRoute" && column.Priority == 0 {
				columns[column.Name] = b.String()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Hostnames": `["a.example.com"]`, "Programmed": "False", "Serving": "2", "Replicas": "3", "Age": "2026-01-01T00:00:00Z"} {
		if columns[name] != want {
			t.Errorf("%s: %q, want %q", name, columns[name], want)
		}
	}
}
