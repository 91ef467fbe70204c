package controllers

import (
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestReplicasAreTheReadyEndpointsOfTheServiceEachOnce(t *testing.T) {
	yes, no := true, false
	slice := func(ns, service string, family discoveryv1.AddressType, ready *bool, addresses ...string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: family,
		}
		for _, a := range addresses {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: ready}})
		}
		return s
	}
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	all := []*discoveryv1.EndpointSlice{
		slice("system", "ferrum", v4, &yes, "10.0.0.1", "10.0.0.2"),
		slice("system", "ferrum", v4, nil, "10.0.0.2", "10.0.0.3"), // not known counts as ready
		slice("system", "ferrum", v4, &no, "10.0.0.4"),
		slice("system", "ferrum", v6, &yes, "2001:db8::1", "2001:db8::2"),
		slice("system", "other", v4, &yes, "10.0.0.5"),
		slice("other", "ferrum", v4, &yes, "10.0.0.6"),
	}
	if n := countReplicas(types.NamespacedName{Namespace: "system", Name: "ferrum"}, all); n != 3 {
		t.Errorf("%d replicas, want 3", n)
	}
	if n := countReplicas(types.NamespacedName{Namespace: "system", Name: "none"}, all); n != 0 {
		t.Errorf("%d replicas of a Service that has none", n)
	}
}

func TestWhileNoReplicaIsReadyTheNumberBeforeStays(t *testing.T) {
	slice := testSlice()
	slice.Endpoints = append(slice.Endpoints, slice.Endpoints[0])
	slice.Endpoints[1].Addresses = []string{"10.0.0.2"}
	told := []int{}
	r := &reconciler{replicas: func(n int) { told = append(told, n) },
		replicasOf: types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}}
	all := []*discoveryv1.EndpointSlice{slice}
	r.tellReplicas(all)
	for i := range slice.Endpoints {
		slice.Endpoints[i].Conditions.Ready = new(false)
	}
	r.tellReplicas(all)
	r.tellReplicas(nil)
	slice.Endpoints[0].Conditions.Ready = new(true)
	r.tellReplicas(all)
	if !slices.Equal(told, []int{2, 1}) {
		t.Errorf("told of %v replicas, want 2 and then 1", told)
	}
}
