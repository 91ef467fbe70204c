package translate

import (
	"reflect"
	"slices"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// routeEntry is a route and what was found about it.
type routeEntry struct {
	filed    *filed[*v1alpha1.ProxyRoute]
	fresh    bool           // the object changed since it was compiled
	compiled *compiledRoute // nil: never
	// hosts is what conflicts left, by hostname of the plan.
	hosts []hostOutcome
	// good are the last good versions of its rules, by name; nil without
	// Builder.KeepLastGood.
	good map[string]*plan.Rule
}

func (e *routeEntry) object() *v1alpha1.ProxyRoute { return e.filed.object }

// plan returns what of the route is in the plan; nil when nothing is.
func (e *routeEntry) plan() *plan.Route {
	if e.compiled == nil {
		return nil
	}
	return e.compiled.plan
}

// routeSet is all routes.
type routeSet struct {
	byName map[name]*routeEntry
	order  []*routeEntry // in their order of precedence
}

// update takes in the objects that changed and returns the entries that are
// gone; objects is what there is now.
func (rs *routeSet) update(d difference[*v1alpha1.ProxyRoute], objects *gathered[*v1alpha1.ProxyRoute]) (gone []*routeEntry) {
	if rs.byName == nil {
		rs.byName = make(map[name]*routeEntry, len(d.came))
	}
	reorder := false
	for _, o := range d.gone {
		n := nameOf(o)
		f := objects.byName[n]
		if f == nil {
			gone = append(gone, rs.byName[n])
			delete(rs.byName, n)
			continue
		}
		reorder = reorder || !f.object.CreationTimestamp.Equal(&o.CreationTimestamp)
		if f.object.UID != o.UID {
			rs.byName[n].good = nil // another route of that name
		}
	}
	if len(gone) > 0 {
		rs.order = slices.DeleteFunc(rs.order, func(e *routeEntry) bool { return rs.byName[nameOf(e.object())] != e })
	}
	for _, f := range d.came {
		n := nameOf(f.object)
		e := rs.byName[n]
		if e == nil {
			e = &routeEntry{filed: f}
			rs.byName[n] = e
			rs.order = append(rs.order, e)
			reorder = true
		}
		e.fresh = true
	}
	if reorder {
		slices.SortFunc(rs.order, entriesByAge)
	}
	return gone
}

func entriesByAge(a, b *routeEntry) int { return byAge(a.object(), b.object()) }

// gatherInputs looks up what a route refers to. refs is a buffer.
func (b *Builder) gatherInputs(r *v1alpha1.ProxyRoute, refs []refInputs) routeInputs {
	in := routeInputs{choice: b.classes.choose(r), namespace: b.namespaces[r.Namespace], refs: refs[:0], secret: b.secret}
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		for j := range rule.BackendRefs {
			n := backendName(&rule.BackendRefs[j], r.Namespace)
			ref := refInputs{service: b.services.byName[n]}
			if n.Namespace != r.Namespace {
				ref.grants = b.refGrants[n.Namespace]
			}
			in.refs = append(in.refs, ref)
		}
	}
	return in
}

// allowedKey identifies what a class grants to a namespace.
type allowedKey struct {
	class     *class
	namespace *namespace
}

// recompiled is an entry that was compiled anew, and its plan of before.
type recompiled struct {
	entry  *routeEntry
	before *plan.Route
}

// compileRoutes compiles the routes whose inputs changed: those whose object
// did, and when everything else may have changed, those for which it did. A
// plan that comes out the same stays the same pointer, so that the data plane
// compiles nothing for it.
func (b *Builder) compileRoutes(everything bool) (changed []recompiled) {
	allowed := make(map[allowedKey]*hostSet)
	var buffer []refInputs
	for _, e := range b.routes.order {
		if !e.fresh && !everything {
			continue
		}
		in := b.gatherInputs(e.object(), buffer)
		buffer = in.refs
		if e.compiled != nil {
			in.held = b.heldInputs(e, e.compiled.held)
		}
		if !e.fresh && e.compiled.in.sameAs(&in) {
			continue
		}
		in.refs = slices.Clone(in.refs)
		var hosts *hostSet
		if c := in.choice.class; c != nil {
			key := allowedKey{c, in.namespace}
			if hosts = allowed[key]; hosts == nil {
				hosts = c.allowed(in.namespace)
				allowed[key] = hosts
			}
		}
		before := e.plan()
		in.held = nil
		e.compiled, e.fresh = compileRoute(e.object(), in, hosts, nil), false
		b.hold(e, hosts)
		if before != nil && reflect.DeepEqual(before, e.compiled.plan) {
			e.compiled.plan = before
		}
		if b.KeepLastGood {
			e.remember()
		}
		changed = append(changed, recompiled{e, before})
	}
	return changed
}
