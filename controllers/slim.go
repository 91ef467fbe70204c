package controllers

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

// slim takes out of an object, before it enters a cache, what nobody here reads.
// It saves most of the memory of the caches, and what is not there cannot make
// two versions of an object look different.
//
// It may see an object again that is in a cache already and being read: it
// writes only where something is left to take out.
//
// Of the endpoints of the Service replicasOf it leaves the names of the Pods.
func slim(replicasOf types.NamespacedName) toolscache.TransformFunc {
	return func(in any) (any, error) { return slimmed(in, replicasOf) }
}

func slimmed(in any, replicasOf types.NamespacedName) (any, error) {
	o, ok := in.(metav1.Object)
	if !ok {
		return in, nil // a tombstone; what it holds has been here
	}
	if o.GetManagedFields() != nil {
		o.SetManagedFields(nil)
	}
	if _, ok := o.GetAnnotations()[corev1.LastAppliedConfigAnnotation]; ok { //nolint:staticcheck // a delete is a write also when the key is not there
		delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	switch o := in.(type) {
	case *corev1.Service:
		slimMeta(o)
		dropLabels(o)
		if len(o.Status.Conditions)+len(o.Status.LoadBalancer.Ingress) > 0 {
			o.Status = corev1.ServiceStatus{}
		}
	case *corev1.Namespace:
		slimMeta(o)
		if len(o.Status.Conditions) > 0 {
			o.Status.Conditions = nil
		}
	case *discoveryv1.EndpointSlice:
		slimMeta(o)
		own := o.Namespace == replicasOf.Namespace && o.Labels[discoveryv1.LabelServiceName] == replicasOf.Name
		slimEndpoints(o.Endpoints, own)
	}
	return in, nil
}

// slimMeta takes out the metadata of the kinds of others that says nothing
// about traffic. Labels stay: they select Namespaces and EndpointSlices.
func slimMeta(o metav1.Object) {
	if o.GetAnnotations() != nil {
		o.SetAnnotations(nil)
	}
	if o.GetOwnerReferences() != nil {
		o.SetOwnerReferences(nil)
	}
	if o.GetFinalizers() != nil {
		o.SetFinalizers(nil)
	}
}

func dropLabels(o metav1.Object) {
	if o.GetLabels() != nil {
		o.SetLabels(nil)
	}
}

func slimEndpoints(endpoints []discoveryv1.Endpoint, named bool) {
	for i := range endpoints {
		e := &endpoints[i]
		if e.Hostname != nil || e.TargetRef != nil && !named || e.DeprecatedTopology != nil || e.NodeName != nil || e.Zone != nil {
			less := discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, Hints: e.Hints}
			if named {
				less.TargetRef = e.TargetRef
			}
			*e = less
		}
	}
}
