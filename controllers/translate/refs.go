package translate

import (
	"fmt"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// refInputs is what a backendRef refers to. It is comparable.
type refInputs struct {
	service *service   // nil: does not exist
	grants  *refGrants // of the Service's namespace, when that is another one
}

// backendName is the Service of a backendRef of a route.
func backendName(ref *v1alpha1.BackendRef, routeNamespace string) name {
	if ref.Namespace != nil && *ref.Namespace != "" {
		return name{Namespace: *ref.Namespace, Name: ref.Name}
	}
	return name{Namespace: routeNamespace, Name: ref.Name}
}

// refProblem says why a backendRef does not resolve.
type refProblem struct {
	reason, message string
}

// resolve finds the port that a backendRef means. A reference that is not
// permitted says nothing about whether the Service exists.
func resolve(ref *v1alpha1.BackendRef, in refInputs, routeNamespace string) (servicePort, *refProblem) {
	n := backendName(ref, routeNamespace)
	permitted := n.Namespace == routeNamespace || in.grants.permits(routeNamespace, n.Name)
	if permitted && in.service != nil && !in.service.external {
		if p, ok := in.service.port(ref.Port); ok && p.usable() {
			return p, nil
		}
	}
	return servicePort{}, in.problem(ref, short(n.String()), permitted, routeNamespace)
}

// problem says why a backendRef does not resolve; shown is its Service.
func (in refInputs) problem(ref *v1alpha1.BackendRef, shown string, permitted bool, routeNamespace string) *refProblem {
	switch {
	case !permitted:
		return &refProblem{v1alpha1.ReasonRefNotPermitted, fmt.Sprintf(
			"Service %s is in another namespace, and no ReferenceGrant there permits ProxyRoutes of namespace %s to refer to it; ask its owner for one",
			shown, quote(routeNamespace))}
	case in.service == nil:
		return &refProblem{v1alpha1.ReasonBackendNotFound, fmt.Sprintf(
			"Service %s does not exist; create it or correct the backendRef", shown)}
	case in.service.external:
		return &refProblem{v1alpha1.ReasonUnsupportedBackend, fmt.Sprintf(
			"Service %s is of type ExternalName, which has no endpoints; refer to a Service with EndpointSlices", shown)}
	}
	p, ok := in.service.port(ref.Port)
	if !ok {
		return &refProblem{v1alpha1.ReasonPortNotFound, fmt.Sprintf(
			"Service %s has no port %s; it has %s", shown, portWords(ref.Port), in.service.portList())}
	}
	return &refProblem{v1alpha1.ReasonUnsupportedBackend, fmt.Sprintf(
		"port %s of Service %s is %s; only TCP ports are supported", p, shown, p.protocol)}
}

// portList names the ports of a Service.
func (s *service) portList() string {
	if len(s.ports) == 0 {
		return "none"
	}
	words := make([]string, len(s.ports))
	for i, p := range s.ports {
		words[i] = p.String()
	}
	return list(words, ", ")
}

// leg compiles a backendRef under the policy that holds for it. problem is what
// makes the whole rule unusable.
func leg(ref *v1alpha1.BackendRef, in refInputs, near, far *stanzas, routeNamespace string) (l plan.Leg, unresolved *refProblem, problem string) {
	l.Weight = 1
	if ref.Weight != nil {
		if *ref.Weight < 0 {
			return l, nil, fmt.Sprintf("weight %d is negative", *ref.Weight)
		}
		l.Weight = uint32(*ref.Weight)
	}
	port, unresolved := resolve(ref, in, routeNamespace)
	if unresolved != nil {
		l.Invalid = unresolved.message
		return l, unresolved, ""
	}
	policy, problem := effective(near, port.policy, in.service.policy, far)
	n := backendName(ref, routeNamespace)
	l.Pool = plan.PoolKey{Namespace: n.Namespace, Service: n.Name, Port: uint16(port.number), Policy: policy}
	return l, nil, problem
}
