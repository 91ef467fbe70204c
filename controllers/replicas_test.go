package controllers

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
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
	if ready, known := readyReplicas(types.NamespacedName{Namespace: "system", Name: "ferrum"}, all); len(ready) != 3 || !known {
		t.Errorf("replicas %v, known %v; want 3", ready, known)
	}
	if ready, known := readyReplicas(types.NamespacedName{Namespace: "system", Name: "none"}, all); len(ready) != 0 || known {
		t.Errorf("replicas %v, known %v, of a Service that has none", ready, known)
	}
}

func TestAReplicaIsReadyWhenItServesAndDoesNotTerminate(t *testing.T) {
	yes, no := true, false
	for name, tc := range map[string]struct {
		conditions discoveryv1.EndpointConditions
		addresses  []string
		want       string
	}{
		"nothing is known":           {discoveryv1.EndpointConditions{}, []string{"10.0.0.1"}, "ferrum-a (10.0.0.1)"},
		"published, not serving":     {discoveryv1.EndpointConditions{Ready: &yes, Serving: &no}, []string{"10.0.0.1"}, ""},
		"published, serving":         {discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}, []string{"2001:db8::1"}, "ferrum-a (2001:db8::1)"},
		"published, and terminating": {discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &yes}, []string{"10.0.0.1"}, ""},
		"terminating":                {discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}, []string{"10.0.0.1"}, ""},
		"without an address":         {discoveryv1.EndpointConditions{Ready: &yes}, nil, ""},
		"with a name":                {discoveryv1.EndpointConditions{Ready: &yes}, []string{"ferrum.example.com"}, ""},
	} {
		r, ok := replicaOf(&discoveryv1.Endpoint{
			Addresses: tc.addresses, Conditions: tc.conditions, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "ferrum-a", UID: "a"},
		})
		if ok != (tc.want != "") || ok && (r.String() != tc.want || r.uid != "a") {
			t.Errorf("%s: %v %v, want %q", name, r, ok, tc.want)
		}
	}
}

func TestTheCacheKeepsTheNamesOfThePodsOfTheProxyAndOfNoOthers(t *testing.T) {
	own := types.NamespacedName{Namespace: "shop", Name: "web"}
	for _, of := range []types.NamespacedName{own, {Namespace: "shop", Name: "other"}} {
		s := testSlice()
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: new("n"), TargetRef: &corev1.ObjectReference{Name: "web-1"}}}
		if _, err := slim(of)(s); err != nil {
			t.Fatal(err)
		}
		e := s.Endpoints[0]
		if (e.TargetRef != nil) != (of == own) || e.NodeName != nil {
			t.Errorf("for %s the cache keeps %+v", of, e)
		}
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
	r.count(all)
	for i := range slice.Endpoints {
		slice.Endpoints[i].Conditions.Ready = new(false)
	}
	r.count(all)
	r.count(nil)
	slice.Endpoints[0].Conditions.Ready = new(true)
	r.count(all)
	if !slices.Equal(told, []int{2, 1}) {
		t.Errorf("told of %v replicas, want 2 and then 1", told)
	}
}
