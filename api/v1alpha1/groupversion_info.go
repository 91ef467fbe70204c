package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the three kinds.
const GroupName = "ferrum.dev"

// GroupVersion is the group and version of the three kinds.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme registers the three kinds and their lists with a scheme.
var AddToScheme = schemeBuilder.AddToScheme

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&ProxyRoute{}, &ProxyRouteList{},
		&BackendPolicy{}, &BackendPolicyList{},
		&ProxyClass{}, &ProxyClassList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
