package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Build says what a snapshot means. It is a pure function.
func Build(s Snapshot) Result { return new(Builder).Build(s) }

// Builder builds like Build, last good rules apart, and keeps what did not change
// since its build before; see the package comment. The zero Builder is ready. It
// is not for concurrent use.
type Builder struct {
	// KeepLastGood lets a rule that cannot be compiled any more be served as it
	// was when it could. Then Results depend on earlier Snapshots. It must not
	// change after the first build.
	KeepLastGood bool

	started bool

	// The objects of the last snapshot.
	routeObjects     gathered[*v1alpha1.ProxyRoute]
	policyObjects    gathered[*v1alpha1.BackendPolicy]
	classObjects     gathered[*v1alpha1.ProxyClass]
	serviceObjects   gathered[*corev1.Service]
	namespaceObjects gathered[*corev1.Namespace]
	grantObjects     gathered[*gatewayv1.ReferenceGrant]
	slices           sliceIndex

	// What they mean. A value that is the same pointer as before means the same.
	classes    classes
	namespaces map[string]*namespace
	refGrants  map[string]*refGrants
	services   services
	routes     routeSet
	claims     claimBook

	poolRefs poolRefs
	poolKeys []plan.PoolKey // sorted
	pools    []*pool        // of the keys
	vantage  vantage

	secret string // Snapshot.SessionSecret

	result Result
}

// Build says what a snapshot means. Its Result shares with earlier ones what
// did not change and is never changed itself.
func (b *Builder) Build(s Snapshot) Result {
	routes := b.routeObjects.update(s.Routes, sameSpec)
	meaning := b.judge(&s)
	if secret := string(s.SessionSecret); secret != b.secret {
		b.secret, meaning = secret, true
	}
	slicesChanged := b.slices.update(s.EndpointSlices)

	keysChanged := !b.started
	if routes.any() || meaning || !b.started {
		keysChanged = b.translateRoutes(routes, meaning) || keysChanged
	}
	if keysChanged {
		b.poolKeys, b.pools = b.newPoolKeys()
	}
	v := vantage{local: s.AllowLocalEndpoints, zone: s.Zone, node: s.Node}
	moved := b.vantage != v
	b.vantage = v
	switch {
	// The meaning counts: a Service's port may have got another name.
	case keysChanged || meaning || moved:
		b.fillPools()
	case len(slicesChanged) > 0:
		b.refillPools(slicesChanged)
	}
	b.started = true
	return b.result
}

// judge updates what the objects other than routes and slices mean, and says
// whether any of them changed.
func (b *Builder) judge(s *Snapshot) (changed bool) {
	if b.classObjects.update(s.Classes, sameVersion).any() || !b.started {
		b.classes = judgeClasses(b.classes, &b.classObjects)
		b.result.Verdicts.Classes = b.classes.verdicts
		changed = true
	}
	if b.namespaceObjects.update(s.Namespaces, sameVersion).any() {
		b.namespaces = judgeNamespaces(b.namespaces, &b.namespaceObjects)
		changed = true
	}
	if b.grantObjects.update(s.Grants, sameVersion).any() {
		b.refGrants = judgeRefGrants(b.refGrants, &b.grantObjects)
		changed = true
	}
	services := b.serviceObjects.update(s.Services, sameVersion)
	policies := b.policyObjects.update(s.Policies, sameSpec)
	if services.any() || policies.any() || !b.started {
		p := b.services.update(services, &b.policyObjects)
		b.result.Verdicts.Policies = p.verdicts
		changed = true
	}
	return changed
}

// translateRoutes compiles the routes, finds their conflicts and gives the
// verdicts; everything says that more than routes may have changed. It says
// whether the set of pools may have changed.
func (b *Builder) translateRoutes(d difference[*v1alpha1.ProxyRoute], everything bool) (keysChanged bool) {
	gone := b.routes.update(d, &b.routeObjects)
	changed := b.compileRoutes(everything)
	if b.started && len(gone) == 0 && len(changed) == 0 {
		return false
	}
	if b.poolRefs == nil {
		b.poolRefs = make(poolRefs)
	}
	verdicts := maps.Clone(b.result.Verdicts.Routes)
	if verdicts == nil {
		verdicts = make(map[name]RouteVerdict, len(changed))
	}
	touched := make(map[string]struct{}, len(changed))
	for _, e := range gone {
		b.claims.refile(e, e.plan(), nil, touched)
		keysChanged = b.poolRefs.add(e.plan(), -1) || keysChanged
		delete(verdicts, nameOf(e.object()))
	}
	for _, c := range changed {
		b.claims.refile(c.entry, c.before, c.entry.plan(), touched)
		if c.before != c.entry.plan() {
			keysChanged = b.poolRefs.add(c.entry.plan(), 1) || keysChanged
			keysChanged = b.poolRefs.add(c.before, -1) || keysChanged
		}
		verdicts[nameOf(c.entry.object())] = c.entry.compiled.clean
	}
	for e := range b.claims.judge(touched) {
		verdicts[nameOf(e.object())] = e.verdict()
	}
	b.result.Verdicts.Routes = verdicts
	b.result.Plan.Routes = b.routes.plans()
	return keysChanged
}

// plans returns the plans of the routes that are in the plan, in their order.
func (rs *routeSet) plans() []*plan.Route {
	routes := make([]*plan.Route, 0, len(rs.order))
	for _, e := range rs.order {
		if p := e.plan(); p != nil {
			routes = append(routes, p)
		}
	}
	return routes
}

// newPoolKeys returns the keys of the plan, sorted, and the pools of those that
// were there before.
func (b *Builder) newPoolKeys() ([]plan.PoolKey, []*pool) {
	keys := make([]plan.PoolKey, 0, len(b.poolRefs))
	for k := range b.poolRefs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, comparePoolKeys)
	pools := make([]*pool, len(keys))
	before := 0
	for i, k := range keys {
		for before < len(b.poolKeys) && comparePoolKeys(b.poolKeys[before], k) < 0 {
			before++
		}
		if before < len(b.poolKeys) && b.poolKeys[before] == k {
			pools[i] = b.pools[before]
		}
	}
	return keys, pools
}
