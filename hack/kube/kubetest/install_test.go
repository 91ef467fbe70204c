package kubetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// kustomized returns the objects of a kustomization that only has resources,
// as those under config/ do.
func kustomized(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	var k struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []string `json:"resources"`
	}
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(dir, "kustomization.yaml")), &k); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range k.Resources {
		path := filepath.Join(dir, resource)
		if !strings.HasSuffix(path, ".yaml") {
			objects = append(objects, kustomized(t, path)...)
			continue
		}
		documents := k8syaml.NewYAMLOrJSONDecoder(bytes.NewReader(read(t, path)), 4096)
		for {
			o := &unstructured.Unstructured{}
			err := documents.Decode(o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if o.Object != nil {
				objects = append(objects, o)
			}
		}
	}
	return objects
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const install = "../../../config/default"

func TestInstallationIsAcceptedByAnEmptyCluster(t *testing.T) {
	s := Start(t, WithoutCRDs())
	c := s.Client(t)
	for _, o := range order(kustomized(t, install)) {
		if err := c.Create(t.Context(), o, client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	// No controller creates Pods here: ask for the one of the Deployment, which
	// the namespace's Pod Security level has to admit.
	var pod corev1.Pod
	for _, o := range kustomized(t, install) {
		if o.GetKind() == "Deployment" {
			template, _, err := unstructured.NestedMap(o.Object, "spec", "template")
			if err != nil {
				t.Fatal(err)
			}
			data, err := yaml.Marshal(template)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict(data, &pod); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod.Namespace, pod.Name = "ferrum-system", "ferrum-0"
	if err := c.Create(t.Context(), &pod); err != nil {
		t.Errorf("the Deployment's Pod: %v", err)
	}
}

// order puts namespaces first, as kubectl does.
func order(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		rank := func(o *unstructured.Unstructured) int {
			if o.GetKind() == "Namespace" {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	return objects
}

func TestServiceAccountMayReadWriteStatusesAndNothingElse(t *testing.T) {
	s := Shared(t)
	admin, ns := s.Client(t), s.Namespace(t, nil)
	for _, o := range kustomized(t, install) {
		if o.GroupVersionKind().Group != rbacv1.GroupName {
			continue
		}
		o.SetNamespace(strings.Replace(o.GetNamespace(), "ferrum-system", ns, 1))
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // those outside namespaces would meet themselves with -count
			if err := admin.Delete(context.Background(), o); err != nil {
				t.Error(err)
			}
		})
	}
	r := route(ns, "r")
	if err := admin.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}

	c, err := client.New(s.UserConfig(t, "system:serviceaccount:ferrum-system:ferrum"), client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []client.ObjectList{
		&v1alpha1.ProxyRouteList{}, &v1alpha1.BackendPolicyList{}, &v1alpha1.ProxyClassList{},
		&corev1.ServiceList{}, &corev1.NamespaceList{}, &discoveryv1.EndpointSliceList{}, &gatewayv1.ReferenceGrantList{},
	} {
		if err := c.List(t.Context(), list); err != nil {
			t.Error(err)
		}
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ferrum-status-writer"}}
	if err := c.Create(t.Context(), lease); err != nil {
		t.Error(err)
	}
	if err := c.Update(t.Context(), lease); err != nil {
		t.Error(err)
	}

	status := client.MergeFrom(r.DeepCopy())
	r.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, LastTransitionTime: metav1.Now(),
	}}
	if err := c.Status().Patch(t.Context(), r, status); err != nil {
		t.Errorf("a status: %v", err)
	}
	spec := client.MergeFrom(r.DeepCopy())
	r.Spec.Hostnames = []v1alpha1.Hostname{"taken.example.com"}
	if err := c.Patch(t.Context(), r, spec); !apierrors.IsForbidden(err) {
		t.Errorf("a spec: %v, want that it is forbidden", err)
	}
	if err := c.List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Errorf("Secrets: %v, want that they are forbidden", err)
	}
}
