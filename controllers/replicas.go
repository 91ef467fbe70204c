package controllers

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tellReplicas tells somebody of the number of ready replicas. While none is
// ready, as in a moment in which all fail their probes and still have requests, the
// number before stays: with 1, each would let through what is for all.
func (r *reconciler) tellReplicas(slices []*discoveryv1.EndpointSlice) {
	if r.replicas == nil {
		return
	}
	if n := countReplicas(r.replicasOf, slices); n > 0 {
		r.replicas(n)
	}
}

// countReplicas counts the ready endpoints of a Service: of one with two address
// families, those of the family that has more.
func countReplicas(of types.NamespacedName, slices []*discoveryv1.EndpointSlice) int {
	families := make(map[discoveryv1.AddressType]map[string]struct{})
	most := 0
	for _, s := range slices {
		if s.Namespace != of.Namespace || s.Labels[discoveryv1.LabelServiceName] != of.Name {
			continue
		}
		ready := families[s.AddressType]
		if ready == nil {
			ready = make(map[string]struct{})
			families[s.AddressType] = ready
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				ready[e.Addresses[0]] = struct{}{}
			}
		}
		most = max(most, len(ready))
	}
	return most
}
