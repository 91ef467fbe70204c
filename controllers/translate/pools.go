package translate

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxWarnings bounds Result.Warnings.
const maxWarnings = 100

// vantage is what the endpoints of a pool depend on besides the objects: where
// the process runs, and whether it may reach local addresses.
type vantage struct {
	local      bool // Snapshot.AllowLocalEndpoints
	zone, node string
}

// pool is the members of a plan.Pool and what they were made of.
type pool struct {
	group     *sliceGroup // nil: the Service has no EndpointSlices
	port      string      // name of the port in the slices
	vantage   vantage
	endpoints []plan.Endpoint
	refused   []string // addresses that are not usable, in words
}

// poolRefs counts the legs in the plan that name a pool.
type poolRefs map[plan.PoolKey]int

// add counts the legs of a route n times, which is 1 or -1, and says whether
// the set of pools may have changed. r may be nil.
func (p poolRefs) add(r *plan.Route, n int) (changed bool) {
	if r == nil {
		return false
	}
	for i := range r.Rules {
		for _, l := range r.Rules[i].Legs {
			if l.Invalid != "" {
				continue
			}
			before := p[l.Pool]
			p[l.Pool] += n
			if p[l.Pool] == 0 {
				delete(p, l.Pool)
				changed = true
			}
			changed = changed || before == 0
		}
	}
	return changed
}

// fillPools finds the endpoints of all pools, keeping those of which nothing
// changed.
func (b *Builder) fillPools() {
	pools := make([]*pool, len(b.poolKeys))
	plans := make([]plan.Pool, len(b.poolKeys))
	for i, k := range b.poolKeys {
		pools[i] = b.fillPool(k, b.pools[i])
		plans[i] = plan.Pool{Key: k, Endpoints: pools[i].endpoints}
	}
	b.pools = pools
	b.result.Plan.Pools = plans
	b.result.Warnings = b.warnings()
}

// refillPools is fillPools when only the slices of some Services changed.
func (b *Builder) refillPools(changed map[name]struct{}) {
	plans := slices.Clone(b.result.Plan.Pools)
	for n := range changed {
		first, _ := slices.BinarySearchFunc(b.poolKeys, plan.PoolKey{Namespace: n.Namespace, Service: n.Name}, comparePoolKeys)
		for i := first; i < len(b.poolKeys) && b.poolKeys[i].Namespace == n.Namespace && b.poolKeys[i].Service == n.Name; i++ {
			b.pools[i] = b.fillPool(b.poolKeys[i], b.pools[i])
			plans[i].Endpoints = b.pools[i].endpoints
		}
	}
	b.result.Plan.Pools = plans
	b.result.Warnings = b.warnings()
}

// fillPool finds the endpoints of a pool, unless old still says them. Equal
// endpoints keep their slice.
func (b *Builder) fillPool(k plan.PoolKey, old *pool) *pool {
	service := name{Namespace: k.Namespace, Name: k.Service}
	port, _ := b.services.byName[service].port(intstr.FromInt32(int32(k.Port)))
	p := &pool{group: b.slices.groups[service], port: port.name, vantage: b.vantage}
	if old != nil && old.group == p.group && old.port == p.port && old.vantage == p.vantage {
		return old
	}
	p.collect(service)
	if old != nil && slices.Equal(old.endpoints, p.endpoints) {
		p.endpoints = old.endpoints
	}
	return p
}

// collect merges the endpoints of all slices. Of an address that occurs several
// times the best state counts: while an endpoint moves from one slice to
// another it may be in both.
func (p *pool) collect(service name) {
	if p.group == nil {
		return
	}
	members := make(map[netip.AddrPort]member)
	refused := make(map[string]struct{})
	for _, f := range p.group.members {
		o := f.object
		for _, port := range slicePorts(o, p.port) {
			for i := range o.Endpoints {
				e := &o.Endpoints[i]
				if len(e.Addresses) == 0 {
					continue
				}
				// All addresses of an endpoint are the same process; the first
				// is the one to use.
				addr, why := readAddress(e.Addresses[0], p.vantage.local)
				if why != "" {
					refused[fmt.Sprintf("endpoint %s of Service %s is left out: %s", quote(e.Addresses[0]), service, why)] = struct{}{}
					continue
				}
				key := netip.AddrPortFrom(addr, port)
				found := member{endpointState(e.Conditions), readHints(e.Hints, p.vantage)}
				if known, ok := members[key]; ok {
					found = known.merge(found)
				}
				members[key] = found
			}
		}
	}
	near := nearness(members)
	for addr, m := range members {
		p.endpoints = append(p.endpoints, plan.Endpoint{Addr: addr, State: m.state, Far: m.state == plan.Ready && !near(m.hints)})
	}
	slices.SortFunc(p.endpoints, func(a, b plan.Endpoint) int { return a.Addr.Compare(b.Addr) })
	for w := range refused {
		p.refused = append(p.refused, w)
	}
	slices.Sort(p.refused)
}

// slicePorts returns the numbers that the endpoints of a slice have for the
// Service port of a name; none for a slice of DNS names.
func slicePorts(o *discoveryv1.EndpointSlice, name string) (ports []uint16) {
	if o.AddressType != discoveryv1.AddressTypeIPv4 && o.AddressType != discoveryv1.AddressTypeIPv6 {
		return nil
	}
	for _, p := range o.Ports {
		named := p.Name == nil && name == "" || p.Name != nil && *p.Name == name
		tcp := p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP
		if named && tcp && p.Port != nil && *p.Port >= 1 && *p.Port <= 65535 {
			ports = append(ports, uint16(*p.Port))
		}
	}
	return ports
}

// readAddress parses an endpoint address and says why it cannot be used. The
// API server lets nobody but the writers of EndpointSlices name an address; a
// local one would reach the node that the proxy runs on.
func readAddress(s string, local bool) (addr netip.Addr, why string) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return addr, "it is not an IP address"
	}
	addr = addr.Unmap()
	switch {
	case addr.IsUnspecified():
		return addr, "the unspecified address is no endpoint"
	case addr.IsMulticast():
		return addr, "a multicast address is no endpoint"
	case local:
		return addr, ""
	case addr.IsLoopback():
		return addr, "a loopback address would reach the proxy's own node"
	case addr.IsLinkLocalUnicast():
		return addr, "a link-local address would reach the proxy's own node"
	}
	return addr, ""
}

// endpointState reads the conditions of an endpoint (KEP-1672):
//
//	terminating  ready      serving  state
//	false, nil   true, nil  -        Ready      (nil: unknown counts as ready)
//	false, nil   false      -        NotReady
//	true         -          true     Draining
//	true         -          false    NotReady
//	true         -          nil      as with ready for it
//
// Terminating comes first: the endpoints of a Service that publishes addresses
// that are not ready are "ready" to their end, and one that goes should take no
// new work while another could.
func endpointState(c discoveryv1.EndpointConditions) plan.EndpointState {
	ready := c.Ready == nil || *c.Ready
	terminating := c.Terminating != nil && *c.Terminating
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	switch {
	case terminating && serving:
		return plan.Draining
	case ready && !terminating:
		return plan.Ready
	default:
		return plan.NotReady
	}
}

// warnings gathers what the pools refused, each once and in a stable order.
func (b *Builder) warnings() []string {
	var out []string
	for _, p := range b.pools {
		out = append(out, p.refused...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) > maxWarnings {
		more := fmt.Sprintf("and %s more", plural(len(out)-maxWarnings, "warning"))
		out = append(out[:maxWarnings:maxWarnings], more)
	}
	return out
}
