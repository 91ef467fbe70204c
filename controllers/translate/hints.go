package translate

import (
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// member is what the slices say of an address.
type member struct {
	state plan.EndpointState
	hints hints
}

// merge joins what two slices say of one address, in any order.
func (m member) merge(o member) member {
	switch {
	case m.state < o.state:
		return m
	case m.state > o.state:
		return o
	default:
		m.hints.node, m.hints.ourNode = m.hints.node || o.hints.node, m.hints.ourNode || o.hints.ourNode
		m.hints.zone, m.hints.ourZone = m.hints.zone || o.hints.zone, m.hints.ourZone || o.hints.ourZone
		return m
	}
}

// hints is what the topology hints of an endpoint mean where the process runs.
type hints struct {
	node, ourNode bool // it is for some nodes; for ours
	zone, ourZone bool // it is for some zones; for ours
}

func readHints(h *discoveryv1.EndpointHints, at vantage) (out hints) {
	if h == nil {
		return out
	}
	for _, n := range h.ForNodes {
		out.node = true
		out.ourNode = out.ourNode || n.Name == at.node && at.node != ""
	}
	for _, z := range h.ForZones {
		out.zone = true
		out.ourZone = out.ourZone || z.Name == at.zone && at.zone != ""
	}
	return out
}

// nearness says which endpoints the hints give to the process, by the rules of
// kube-proxy, over the ready endpoints of the Service port:
//
//	each has a node hint, one for our node   those for our node
//	each has a zone hint, one for our zone   those for our zone
//	else                                     all: hints must not leave us without
func nearness(members map[netip.AddrPort]member) func(hints) bool {
	allNodes, anyNode, allZones, anyZone := true, false, true, false
	for _, m := range members {
		if m.state != plan.Ready {
			continue
		}
		allNodes, anyNode = allNodes && m.hints.node, anyNode || m.hints.ourNode
		allZones, anyZone = allZones && m.hints.zone, anyZone || m.hints.ourZone
	}
	switch {
	case allNodes && anyNode:
		return func(h hints) bool { return h.ourNode }
	case allZones && anyZone:
		return func(h hints) bool { return h.ourZone }
	default:
		return func(hints) bool { return true }
	}
}
