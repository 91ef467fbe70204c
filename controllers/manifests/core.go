package manifests

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// These functions check of the kinds of Kubernetes what decides whether they do
// anything here; what else an API server would refuse is up to it.

var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

func checkService(s *corev1.Service) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	types := []corev1.ServiceType{"", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}
	if !slices.Contains(types, s.Spec.Type) {
		errs = append(errs, field.NotSupported(spec.Child("type"), s.Spec.Type, types[1:]))
	}
	external := s.Spec.Type == corev1.ServiceTypeExternalName
	if external && s.Spec.ExternalName == "" {
		errs = append(errs, field.Required(spec.Child("externalName"), "type ExternalName needs it"))
	}
	if len(s.Spec.Ports) == 0 && !external && s.Spec.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, field.Required(spec.Child("ports"), ""))
	}
	names := make(map[string]bool)
	type numbered struct {
		port     int32
		protocol corev1.Protocol
	}
	numbers := make(map[numbered]bool)
	for i, p := range s.Spec.Ports {
		path := spec.Child("ports").Index(i)
		errs = append(errs, checkPortNumber(p.Port, path.Child("port"))...)
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if !slices.Contains(protocols, p.Protocol) {
			errs = append(errs, field.NotSupported(path.Child("protocol"), p.Protocol, protocols))
		}
		if numbers[numbered{p.Port, p.Protocol}] {
			errs = append(errs, field.Duplicate(path, p.Port))
		}
		numbers[numbered{p.Port, p.Protocol}] = true
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(path.Child("name"), "a Service with several ports names them all"))
		case p.Name != "" && names[p.Name]:
			errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
		case p.Name != "":
			errs = append(errs, invalid(path.Child("name"), p.Name, validation.IsDNS1123Label(p.Name))...)
		}
		names[p.Name] = true
	}
	return errs
}

func checkPortNumber(n int32, path *field.Path) field.ErrorList {
	return invalid(path, n, validation.IsValidPortNum(int(n)))
}

// invalid makes errors of the messages of a validation function.
func invalid(path *field.Path, value any, messages []string) (errs field.ErrorList) {
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

// The bounds of an EndpointSlice that its API has.
const (
	maxEndpoints         = 1000
	maxEndpointAddresses = 100
)

func checkEndpointSlice(s *discoveryv1.EndpointSlice) (errs field.ErrorList) {
	types := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN}
	if s.AddressType == "" {
		errs = append(errs, field.Required(field.NewPath("addressType"), ""))
	} else if !slices.Contains(types, s.AddressType) {
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), s.AddressType, types))
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "labels").Key(discoveryv1.LabelServiceName), "without this label the slice belongs to no Service"))
	}
	ports := field.NewPath("ports")
	names := make(map[string]bool)
	for i, p := range s.Ports {
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if names[name] {
			errs = append(errs, field.Duplicate(ports.Index(i).Child("name"), name))
		}
		names[name] = true
		if name != "" {
			errs = append(errs, invalid(ports.Index(i).Child("name"), name, validation.IsDNS1123Label(name))...)
		}
		if p.Port != nil {
			errs = append(errs, checkPortNumber(*p.Port, ports.Index(i).Child("port"))...)
		}
		if p.Protocol != nil && !slices.Contains(protocols, *p.Protocol) {
			errs = append(errs, field.NotSupported(ports.Index(i).Child("protocol"), *p.Protocol, protocols))
		}
	}
	if len(s.Endpoints) > maxEndpoints {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), len(s.Endpoints), maxEndpoints))
	}
	for i := range s.Endpoints {
		errs = append(errs, checkAddresses(s.AddressType, s.Endpoints[i].Addresses, field.NewPath("endpoints").Index(i).Child("addresses"))...)
	}
	return errs
}

func checkAddresses(t discoveryv1.AddressType, addresses []string, path *field.Path) (errs field.ErrorList) {
	if len(addresses) == 0 {
		errs = append(errs, field.Required(path, "must contain at least 1 address"))
	}
	if len(addresses) > maxEndpointAddresses {
		errs = append(errs, field.TooMany(path, len(addresses), maxEndpointAddresses))
	}
	for i, a := range addresses {
		addr, err := netip.ParseAddr(a)
		valid := err == nil && addr.Zone() == ""
		switch {
		case t == discoveryv1.AddressTypeIPv4 && !(valid && addr.Is4()):
			errs = append(errs, field.Invalid(path.Index(i), a, "must be an IPv4 address"))
		case t == discoveryv1.AddressTypeIPv6 && !(valid && addr.Is6()):
			errs = append(errs, field.Invalid(path.Index(i), a, "must be an IPv6 address"))
		case valid && addr.IsUnspecified():
			errs = append(errs, field.Invalid(path.Index(i), a, "may not be unspecified"))
		case valid && addr.IsMulticast():
			errs = append(errs, field.Invalid(path.Index(i), a, "may not be a multicast address"))
		case t == discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(path.Index(i), a)...)
		}
	}
	return errs
}

func checkReferenceGrant(g *gatewayv1.ReferenceGrant) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if len(g.Spec.From) == 0 {
		errs = append(errs, field.Required(spec.Child("from"), ""))
	}
	if len(g.Spec.To) == 0 {
		errs = append(errs, field.Required(spec.Child("to"), ""))
	}
	for i, f := range g.Spec.From {
		path := spec.Child("from").Index(i)
		errs = append(errs, checkGroupKind(string(f.Group), string(f.Kind), path)...)
		if f.Namespace == "" {
			errs = append(errs, field.Required(path.Child("namespace"), ""))
		} else {
			errs = append(errs, invalid(path.Child("namespace"), f.Namespace, validation.IsDNS1123Label(string(f.Namespace)))...)
		}
	}
	for i, t := range g.Spec.To {
		errs = append(errs, checkGroupKind(string(t.Group), string(t.Kind), spec.Child("to").Index(i))...)
	}
	return errs
}

func checkGroupKind(group, kind string, path *field.Path) (errs field.ErrorList) {
	if group != "" {
		errs = append(errs, invalid(path.Child("group"), group, validation.IsDNS1123Subdomain(group))...)
	}
	switch {
	case kind == "":
		errs = append(errs, field.Required(path.Child("kind"), ""))
	case strings.ContainsAny(kind, " ./"):
		errs = append(errs, field.Invalid(path.Child("kind"), kind, "must be the name of a kind"))
	}
	return errs
}
