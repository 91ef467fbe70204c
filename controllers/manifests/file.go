package manifests

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// file is what a file holds.
type file struct {
	name     string
	objects  []object // the valid ones, in their order
	problems []Problem
}

// parseFile reads the content of a file; the name decides between JSON and YAML
// and is that of the problems.
func parseFile(name string, content []byte) *file {
	f := &file{name: name}
	if filepath.Ext(name) == ".json" {
		f.faults(parseJSON(content, func(p parsed) { f.document(p) }))
		return f
	}
	for _, d := range splitYAML(content) {
		p, faults := d.parseYAML()
		f.faults(faults)
		f.document(p)
	}
	return f
}

func (f *file) faults(faults []fault) {
	for _, t := range faults {
		f.problems = append(f.problems, Problem{File: f.name, Line: t.line, Message: t.message})
	}
}

// document takes in the objects of a document.
func (f *file) document(p parsed) {
	items, faults := objectsOf(p)
	f.faults(faults)
	for _, item := range items {
		f.object(item)
	}
}

// object decodes and validates one object.
func (f *file) object(p parsed) {
	generic := p.value.(map[string]any)
	gvk := typeOf(generic)
	about := Problem{File: f.name, Line: p.lines.first, Object: objectWords(gvk.Kind, "", nameIn(generic, "name"))}
	d, known := decoders[gvk]
	if !known {
		about.Severity, about.Message = unknownKind(gvk, generic)
		f.problems = append(f.problems, about)
		return
	}
	normalizeMeta(generic, d.namespaced)
	about.Object = objectWords(gvk.Kind, nameIn(generic, "namespace"), nameIn(generic, "name"))
	o, errs := d.decode(generic)
	for _, e := range errs {
		about.Line, about.Message = p.lines.of(e.Field), message(e)
		f.problems = append(f.problems, about)
	}
	if len(errs) == 0 {
		strip(o)
		f.objects = append(f.objects, object{value: o, kind: gvk.Kind, line: p.lines.first})
	}
}

// nameIn returns a string of the metadata; "" when there is none.
func nameIn(generic map[string]any, key string) string {
	meta, _ := generic["metadata"].(map[string]any)
	s, _ := meta[key].(string)
	return s
}

// normalizeMeta puts an object into the namespace that kubectl would: "default"
// when it names none, and none when its kind is cluster-scoped.
func normalizeMeta(generic map[string]any, namespaced bool) {
	if generic["metadata"] == nil {
		generic["metadata"] = make(map[string]any)
	}
	meta, ok := generic["metadata"].(map[string]any)
	if !ok {
		return // decoding says so
	}
	switch {
	case !namespaced:
		delete(meta, "namespace")
	case meta["namespace"] == nil || meta["namespace"] == "":
		meta["namespace"] = metav1.NamespaceDefault
	}
}

// strip removes what an API server had assigned if the manifest was read from
// one: an edit does not change it, so it must not stand for a version.
func strip(o metav1.Object) {
	o.SetUID("")
	o.SetResourceVersion("")
	o.SetGeneration(0)
	o.SetManagedFields(nil)
}

// unknownKind says what is wrong with a kind that is not known here. A kind
// that could be meant for us is an error; others may stand beside our own.
func unknownKind(gvk schema.GroupVersionKind, generic map[string]any) (Severity, string) {
	apiVersion, hasVersion := generic["apiVersion"].(string)
	switch {
	case gvk.Kind == "" || !hasVersion:
		return Error, "apiVersion and kind must be set"
	case gvk.Group == v1alpha1.GroupName:
		return Error, fmt.Sprintf("%s has no kind %q; it has ProxyRoute, BackendPolicy and ProxyClass of %s",
			apiVersion, gvk.Kind, v1alpha1.GroupVersion)
	}
	for known := range decoders {
		if known.Kind == gvk.Kind && known.Group == gvk.Group {
			return Error, fmt.Sprintf("%s of %s is not supported; use %s", gvk.Kind, apiVersion, supported(gvk))
		}
	}
	return Warning, fmt.Sprintf("%s of %s is ignored", gvk.Kind, apiVersion)
}

// supported returns the newest version of a kind that is known.
func supported(gvk schema.GroupVersionKind) string {
	var versions []string
	for known := range decoders {
		if known.Kind == gvk.Kind && known.Group == gvk.Group {
			versions = append(versions, known.GroupVersion().String())
		}
	}
	return slices.Min(versions) // v1 before v1beta1
}

// Validate says what an API server that has our CustomResourceDefinitions would
// object to in an object, YAML or JSON, of one of the kinds that are known, in
// the words of the API server. errors.As finds the *field.Error that has the path.
func Validate(manifest []byte) []error {
	var errs []error
	docs := splitYAML(manifest)
	if len(docs) != 1 {
		return []error{fmt.Errorf("%d documents, want one", len(docs))}
	}
	p, faults := docs[0].parseYAML()
	for _, t := range faults {
		errs = append(errs, fmt.Errorf("line %d: %s", t.line, t.message))
	}
	if len(errs) > 0 {
		return errs
	}
	generic, ok := p.value.(map[string]any)
	if !ok {
		return []error{errors.New("not an object: a manifest must be a mapping with apiVersion, kind and metadata")}
	}
	d, known := decoders[typeOf(generic)]
	if !known {
		_, why := unknownKind(typeOf(generic), generic)
		return []error{errors.New(why)}
	}
	normalizeMeta(generic, d.namespaced)
	_, fieldErrs := d.decode(generic)
	for _, e := range fieldErrs {
		errs = append(errs, apiError{field: e})
	}
	return errs
}

// apiError has the words of the API server.
type apiError struct{ field *field.Error }

func (e apiError) Error() string { return message(e.field) }

func (e apiError) Unwrap() error { return e.field }
