package controllers

import (
	"maps"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// What follows says of each kind whether an update could change what is built.
// Objects have been through slim. A different UID under the same name is an
// object that was deleted and made anew while the watch was interrupted; its
// generation may be the same.

// specChanged is for kinds whose generation counts the versions of the spec. A
// write of the status does not change it.
func specChanged(old, new client.Object) bool {
	return old.GetUID() != new.GetUID() || old.GetGeneration() != new.GetGeneration()
}

func routeChanged(old, new *v1alpha1.ProxyRoute) bool { return specChanged(old, new) }

func policyChanged(old, new *v1alpha1.BackendPolicy) bool { return specChanged(old, new) }

func classChanged(old, new *v1alpha1.ProxyClass) bool {
	const isDefault = v1alpha1.DefaultClassAnnotation
	return specChanged(old, new) || old.Annotations[isDefault] != new.Annotations[isDefault]
}

// serviceChanged: Services have no generation.
func serviceChanged(old, new *corev1.Service) bool {
	return old.UID != new.UID || !equality.Semantic.DeepEqual(old.Spec, new.Spec)
}

// namespaceChanged: grants of a class select Namespaces by label.
func namespaceChanged(old, new *corev1.Namespace) bool {
	return old.UID != new.UID || !maps.Equal(old.Labels, new.Labels)
}

// sliceChanged: the generation of an EndpointSlice counts also what slim takes
// out.
func sliceChanged(old, new *discoveryv1.EndpointSlice) bool {
	const service = discoveryv1.LabelServiceName
	return old.UID != new.UID ||
		old.Labels[service] != new.Labels[service] ||
		old.AddressType != new.AddressType ||
		!equality.Semantic.DeepEqual(old.Ports, new.Ports) ||
		!equality.Semantic.DeepEqual(old.Endpoints, new.Endpoints)
}

// referred knows the Services that some route or policy names, and that of the
// replicas, so that the churn of all the others leads to no build. The zero value
// names none.
//
// The reconciler updates it after it has listed the routes and policies and
// before it lists Services and EndpointSlices; an event is judged after its
// object has entered the cache. So an event that is judged by an older set
// precedes the list that would show its object, and none is lost.
type referred struct {
	services atomic.Pointer[map[types.NamespacedName]struct{}]
}

func (r *referred) update(routes []*v1alpha1.ProxyRoute, policies []*v1alpha1.BackendPolicy, replicasOf types.NamespacedName) {
	set := map[types.NamespacedName]struct{}{replicasOf: {}}
	for _, route := range routes {
		for i := range route.Spec.Rules {
			for _, ref := range route.Spec.Rules[i].BackendRefs {
				name := types.NamespacedName{Namespace: route.Namespace, Name: ref.Name}
				if ref.Namespace != nil {
					name.Namespace = *ref.Namespace
				}
				set[name] = struct{}{}
			}
		}
	}
	for _, p := range policies {
		for _, ref := range p.Spec.TargetRefs {
			set[types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}] = struct{}{}
		}
	}
	r.services.Store(&set)
}

func (r *referred) has(namespace, name string) bool {
	set := r.services.Load()
	if set == nil {
		return false
	}
	_, ok := (*set)[types.NamespacedName{Namespace: namespace, Name: name}]
	return ok
}

func (r *referred) service(s *corev1.Service) bool { return r.has(s.Namespace, s.Name) }

func (r *referred) slice(s *discoveryv1.EndpointSlice) bool {
	return r.has(s.Namespace, s.Labels[discoveryv1.LabelServiceName])
}
