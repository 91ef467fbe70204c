package translate

import (
	"maps"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// sliceGroup is the EndpointSlices of one Service. A group is never changed:
// when one of its slices is, the Service gets a new group.
type sliceGroup struct {
	members map[name]*filed[*discoveryv1.EndpointSlice]
}

// sliceIndex files EndpointSlices by Service.
type sliceIndex struct {
	objects gathered[*discoveryv1.EndpointSlice]
	groups  map[name]*sliceGroup
}

// update takes the slices of a new snapshot and returns the Services whose
// group changed.
func (x *sliceIndex) update(list []*discoveryv1.EndpointSlice) map[name]struct{} {
	d := x.objects.update(list, sameVersion)
	if !d.any() {
		return nil
	}
	if x.groups == nil {
		x.groups = make(map[name]*sliceGroup, len(list))
	}
	changed := make(map[name]struct{})
	for _, o := range d.gone {
		if g := x.regroup(serviceOf(o), changed); g != nil {
			delete(g.members, nameOf(o))
		}
	}
	for _, f := range d.came {
		if g := x.regroup(serviceOf(f.object), changed); g != nil {
			g.members[nameOf(f.object)] = f
		}
	}
	for service := range changed {
		if len(x.groups[service].members) == 0 {
			delete(x.groups, service)
		}
	}
	return changed
}

// regroup returns a group of the Service that was made in this update, and nil
// for what belongs to no Service.
func (x *sliceIndex) regroup(service name, changed map[name]struct{}) *sliceGroup {
	if service.Name == "" {
		return nil
	}
	old := x.groups[service]
	if _, fresh := changed[service]; fresh {
		return old
	}
	changed[service] = struct{}{}
	g := &sliceGroup{members: make(map[name]*filed[*discoveryv1.EndpointSlice])}
	if old != nil {
		maps.Copy(g.members, old.members)
	}
	x.groups[service] = g
	return g
}

// serviceOf returns the Service that a slice belongs to.
func serviceOf(o *discoveryv1.EndpointSlice) name {
	return name{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
}
