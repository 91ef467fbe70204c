package translate

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

func largeName(i int) name {
	return name{Namespace: fmt.Sprintf("team-%d", i%50), Name: fmt.Sprintf("app-%05d", i)}
}

// largeWorld has routes of so many rules, each route with a host, a Service and
// an EndpointSlice of three endpoints of its own, as an API server has them.
func largeWorld(routes, rules int) *world {
	w := newWorld(1, true)
	meta := func(n name, kind string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name, Generation: 1, ResourceVersion: "1",
			UID: types.UID(kind + n.Namespace + n.Name)}
	}
	class := name{Name: "ferrum"}
	w.classes[class] = &v1alpha1.ProxyClass{ObjectMeta: meta(class, "c")}
	for i := range routes {
		n := largeName(i)
		ns := name{Name: n.Namespace}
		w.namespaces[ns] = &corev1.Namespace{ObjectMeta: meta(ns, "n")}
		w.services[n] = &corev1.Service{ObjectMeta: meta(n, "s"), Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		slice := &discoveryv1.EndpointSlice{ObjectMeta: meta(n, "e"), AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}}}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: n.Name}
		for e := range 3 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", e, i/250, i%250)}})
		}
		w.slices[n] = slice
		route := &v1alpha1.ProxyRoute{ObjectMeta: meta(n, "r")}
		route.Spec.Hostnames = []v1alpha1.Hostname{v1alpha1.Hostname(n.Name + ".example.com")}
		for r := range rules {
			route.Spec.Rules = append(route.Spec.Rules, v1alpha1.RouteRule{
				Matches:     []v1alpha1.RouteMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathMatchPathPrefix, Value: fmt.Sprintf("/v%d", r)}}},
				BackendRefs: []v1alpha1.BackendRef{{Name: n.Name, Port: intstr.FromInt32(80)}},
			})
		}
		w.routes[n] = route
	}
	return w
}

// moveEndpoint gives an endpoint of the slice with a number another address.
func (w *world) moveEndpoint(i int) {
	s := w.slices[largeName(i)].DeepCopy()
	w.version++
	s.ResourceVersion = fmt.Sprintf("moved-%d", w.version)
	s.Endpoints[0].Addresses[0] = fmt.Sprintf("10.200.%d.%d", w.version/250%250, w.version%250)
	w.slices[largeName(i)] = s
}

// editRoute gives a route another path.
func (w *world) editRoute(i int) {
	r := w.routes[largeName(i)].DeepCopy()
	w.version++
	r.Generation++
	r.Spec.Rules[0].Matches[0].Path.Value = fmt.Sprintf("/edited-%d", w.version)
	w.routes[largeName(i)] = r
}

const benchRoutes, benchRules = 5000, 2

func BenchmarkFullBuild(b *testing.B) {
	s := largeWorld(benchRoutes, benchRules).snapshot()
	b.ReportAllocs()
	for b.Loop() {
		Build(s)
	}
}

func BenchmarkBuildAfterNothing(b *testing.B) {
	benchmarkEdits(b, func(*world, int) {})
}

func BenchmarkBuildAfterOneEndpointChange(b *testing.B) {
	benchmarkEdits(b, func(w *world, i int) { w.moveEndpoint(i % benchRoutes) })
}

func BenchmarkBuildAfterOneRouteEdit(b *testing.B) {
	benchmarkEdits(b, func(w *world, i int) { w.editRoute(i % benchRoutes) })
}

// benchmarkEdits builds after each edit. The lists keep their order, but that
// gains nothing.
func benchmarkEdits(b *testing.B, edit func(w *world, i int)) {
	w := largeWorld(benchRoutes, benchRules)
	var builder Builder
	builder.Build(w.snapshot())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		edit(w, i)
		s := w.snapshot()
		b.StartTimer()
		builder.Build(s)
	}
}
