package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

func testRoute() *v1alpha1.ProxyRoute {
	return &v1alpha1.ProxyRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1", Generation: 3, ResourceVersion: "10"},
		Spec: v1alpha1.ProxyRouteSpec{Rules: []v1alpha1.RouteRule{{
			BackendRefs: []v1alpha1.BackendRef{{Name: "web", Port: intstr.FromInt32(80)}},
		}}},
	}
}

func testService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "2"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func testSlice() *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-x", UID: "3", Generation: 1,
			Labels:      map[string]string{discoveryv1.LabelServiceName: "web"},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.1"}, NodeName: new("n1"), Zone: new("z1"),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
	}
}

func testNamespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "4", Labels: map[string]string{"team": "a"}}}
}

func testClass() *v1alpha1.ProxyClass {
	return &v1alpha1.ProxyClass{ObjectMeta: metav1.ObjectMeta{Name: "ferrum", UID: "5", Generation: 1}}
}

// changes compares an object with itself after an edit, both as the cache has
// them.
func changes[T any](t *testing.T, object func() T, changed func(old, new T) bool, edit func(T)) bool {
	t.Helper()
	old, edited := object(), object()
	edit(edited)
	for _, o := range []any{old, edited} {
		if _, err := slim(types.NamespacedName{})(o); err != nil {
			t.Fatal(err)
		}
	}
	return changed(old, edited)
}

func TestOnlyUpdatesThatCouldChangeThePlanLeadToABuild(t *testing.T) {
	route := func(edit func(*v1alpha1.ProxyRoute)) bool { return changes(t, testRoute, routeChanged, edit) }
	class := func(edit func(*v1alpha1.ProxyClass)) bool { return changes(t, testClass, classChanged, edit) }
	service := func(edit func(*corev1.Service)) bool { return changes(t, testService, serviceChanged, edit) }
	slice := func(edit func(*discoveryv1.EndpointSlice)) bool { return changes(t, testSlice, sliceChanged, edit) }
	namespace := func(edit func(*corev1.Namespace)) bool { return changes(t, testNamespace, namespaceChanged, edit) }

	for what, got := range map[string]bool{
		"route: spec":      route(func(o *v1alpha1.ProxyRoute) { o.Generation++ }),
		"route: made anew": route(func(o *v1alpha1.ProxyRoute) { o.UID = "9" }),
		"class: spec":      class(func(o *v1alpha1.ProxyClass) { o.Generation++ }),
		"class: made the default": class(func(o *v1alpha1.ProxyClass) {
			o.Annotations = map[string]string{v1alpha1.DefaultClassAnnotation: "true"}
		}),
		"service: port":      service(func(o *corev1.Service) { o.Spec.Ports[0].Port = 81 }),
		"service: type":      service(func(o *corev1.Service) { o.Spec.Type = corev1.ServiceTypeExternalName }),
		"service: made anew": service(func(o *corev1.Service) { o.UID = "9" }),
		"slice: address":     slice(func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Addresses[0] = "10.0.0.2" }),
		"slice: not ready":   slice(func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Conditions.Ready = new(false) }),
		"slice: terminating": slice(func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Conditions.Terminating = new(true) }),
		"slice: port":        slice(func(o *discoveryv1.EndpointSlice) { o.Ports[0].Port = new(int32(8081)) }),
		"slice: hints": slice(func(o *discoveryv1.EndpointSlice) {
			o.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z1"}}}
		}),
		"slice: of another service":   slice(func(o *discoveryv1.EndpointSlice) { o.Labels[discoveryv1.LabelServiceName] = "api" }),
		"namespace: label":            namespace(func(o *corev1.Namespace) { o.Labels["team"] = "b" }),
		"namespace: label taken away": namespace(func(o *corev1.Namespace) { o.Labels = nil }),
	} {
		if !got {
			t.Errorf("%s: no build", what)
		}
	}
	for what, got := range map[string]bool{
		"route: nothing": route(func(*v1alpha1.ProxyRoute) {}),
		"route: status": route(func(o *v1alpha1.ProxyRoute) {
			o.ResourceVersion = "11"
			o.Status.Hostnames = []string{"a.example.com"}
			o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "ferrum"}}
		}),
		"route: label":            route(func(o *v1alpha1.ProxyRoute) { o.Labels = map[string]string{"a": "b"} }),
		"route: annotation":       route(func(o *v1alpha1.ProxyRoute) { o.Annotations = map[string]string{"a": "b"} }),
		"class: status":           class(func(o *v1alpha1.ProxyClass) { o.Status.Conditions = []metav1.Condition{{Type: "Accepted"}} }),
		"class: other annotation": class(func(o *v1alpha1.ProxyClass) { o.Annotations = map[string]string{"a": "b"} }),
		"service: annotation":     service(func(o *corev1.Service) { o.Annotations = map[string]string{"a": "b"} }),
		"service: status": service(func(o *corev1.Service) {
			o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		}),
		"slice: trigger time": slice(func(o *discoveryv1.EndpointSlice) {
			o.Annotations[corev1.EndpointsLastChangeTriggerTime] = "2026-01-01T00:00:01Z"
		}),
		"slice: pod":         slice(func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: "pod"} }),
		"namespace: phase":   namespace(func(o *corev1.Namespace) { o.Status.Phase = corev1.NamespaceTerminating }),
		"namespace: deleted": namespace(func(o *corev1.Namespace) { o.DeletionTimestamp = &metav1.Time{Time: time.Now()} }),
	} {
		if got {
			t.Errorf("%s: a build for nothing", what)
		}
	}
}

func TestSlimLeavesWhatTheTranslatorReads(t *testing.T) {
	s := testSlice()
	s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "endpointslice-controller"}}
	if _, err := slim(types.NamespacedName{})(s); err != nil {
		t.Fatal(err)
	}
	e := s.Endpoints[0]
	if s.ManagedFields != nil || s.Annotations != nil || e.NodeName != nil || e.Zone != nil {
		t.Errorf("bulk is left: %+v", s)
	}
	if s.Labels[discoveryv1.LabelServiceName] != "web" || e.Addresses[0] != "10.0.0.1" || e.Conditions.Ready == nil || *s.Ports[0].Port != 8080 {
		t.Errorf("too much is gone: %+v", s)
	}

	c := testClass()
	c.Annotations = map[string]string{v1alpha1.DefaultClassAnnotation: "true", corev1.LastAppliedConfigAnnotation: "{}"}
	if _, err := slim(types.NamespacedName{})(c); err != nil {
		t.Fatal(err)
	}
	if len(c.Annotations) != 1 || c.Annotations[v1alpha1.DefaultClassAnnotation] != "true" {
		t.Errorf("annotations of a class %v, want the default annotation alone", c.Annotations)
	}
}

func TestOnlyServicesThatARouteOrPolicyNamesLeadToABuild(t *testing.T) {
	var r referred
	if r.service(testService()) || r.slice(testSlice()) {
		t.Fatal("a Service matters before any route is known")
	}
	abroad := testRoute()
	abroad.Spec.Rules[0].BackendRefs[0] = v1alpha1.BackendRef{Name: "api", Namespace: new("backends")}
	policy := &v1alpha1.BackendPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop"},
		Spec:       v1alpha1.BackendPolicySpec{TargetRefs: []v1alpha1.PolicyTargetRef{{Name: "cache"}}},
	}
	r.update([]*v1alpha1.ProxyRoute{testRoute(), abroad}, []*v1alpha1.BackendPolicy{policy}, types.NamespacedName{Namespace: "system", Name: "proxy"})
	for name, want := range map[[2]string]bool{
		{"shop", "web"}:     true,
		{"backends", "api"}: true,
		{"shop", "cache"}:   true,
		{"system", "proxy"}: true,
		{"shop", "api"}:     false,
		{"other", "web"}:    false,
	} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name[0], Name: name[1]}}
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: name[0], Labels: map[string]string{discoveryv1.LabelServiceName: name[1]}}}
		if got := r.service(service); got != want {
			t.Errorf("Service %s matters: %t, want %t", name, got, want)
		}
		if got := r.slice(slice); got != want {
			t.Errorf("EndpointSlice of %s matters: %t, want %t", name, got, want)
		}
	}
}
