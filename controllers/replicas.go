package controllers

import (
	"cmp"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// replica is a ready endpoint of the proxy's own Service.
type replica struct {
	addr netip.Addr
	pod  string    // its name; "" = not known
	uid  types.UID // of the Pod; "" = not known
}

func (r replica) String() string {
	if r.pod == "" {
		return r.addr.String()
	}
	return r.pod + " (" + r.addr.String() + ")"
}

// readyReplicas returns the ready endpoints of a Service, each once and sorted:
// of one with two address families, those of the family that has more, which is
// IPv4 when both have as many. known: the Service has EndpointSlices.
//
// Ready is what Kubernetes calls serving and not terminating: "ready" is true of
// every endpoint of a Service that publishes addresses that are not ready, as the
// Service of the admin port does.
func readyReplicas(of types.NamespacedName, all []*discoveryv1.EndpointSlice) (ready []replica, known bool) {
	families := make(map[discoveryv1.AddressType]map[netip.Addr]replica)
	for _, s := range all {
		if s.Namespace != of.Namespace || s.Labels[discoveryv1.LabelServiceName] != of.Name {
			continue
		}
		known = true
		family := families[s.AddressType]
		if family == nil {
			family = make(map[netip.Addr]replica)
			families[s.AddressType] = family
		}
		for i := range s.Endpoints {
			if r, ok := replicaOf(&s.Endpoints[i]); ok {
				family[r.addr] = r
			}
		}
	}
	most := families[discoveryv1.AddressTypeIPv4]
	if v6 := families[discoveryv1.AddressTypeIPv6]; len(v6) > len(most) {
		most = v6
	}
	for _, r := range most {
		ready = append(ready, r)
	}
	slices.SortFunc(ready, func(a, b replica) int { return cmp.Or(cmp.Compare(a.pod, b.pod), a.addr.Compare(b.addr)) })
	return ready, known
}

// replicaOf returns the replica that an endpoint is; false when it is not ready.
func replicaOf(e *discoveryv1.Endpoint) (r replica, ok bool) {
	serving := e.Conditions.Serving
	if serving == nil {
		serving = e.Conditions.Ready
	}
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	if len(e.Addresses) == 0 || terminating || serving != nil && !*serving {
		return r, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return r, false
	}
	r.addr = addr
	if ref := e.TargetRef; ref != nil {
		r.pod, r.uid = ref.Name, ref.UID
	}
	return r, true
}
