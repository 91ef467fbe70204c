package controllers

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
)

const (
	// grantsResource is the resource of ReferenceGrant.
	grantsResource = "referencegrants"

	// grantsGone is how many looks in a row must find that ReferenceGrant is not
	// served before the grants that are known are dropped. Dropping them cuts
	// traffic, so one odd answer is not enough; keeping them for ever would
	// leave grants in force that nobody can see or revoke.
	grantsGone = 2

	// grantsRetry is the time between two looks until the first clear answer,
	// which the first build waits for.
	grantsRetry = time.Second
)

// grantVersion is one version of ReferenceGrant. The versions differ in nothing
// but their name.
type grantVersion struct {
	groupVersion string
	object       client.Object
	list         func(context.Context, client.Reader) ([]*gatewayv1.ReferenceGrant, error)
}

// grantVersions are the versions that are known, the preferred one first. Older
// releases of Gateway API serve v1beta1 alone.
var grantVersions = []*grantVersion{
	{gatewayv1.GroupVersion.String(), &gatewayv1.ReferenceGrant{}, listGrants},
	{gatewayv1beta1.GroupVersion.String(), &gatewayv1beta1.ReferenceGrant{}, listBetaGrants},
}

func listGrants(ctx context.Context, r client.Reader) ([]*gatewayv1.ReferenceGrant, error) {
	var l gatewayv1.ReferenceGrantList
	err := r.List(ctx, &l)
	return pointers(l.Items), err
}

func listBetaGrants(ctx context.Context, r client.Reader) ([]*gatewayv1.ReferenceGrant, error) {
	var l gatewayv1beta1.ReferenceGrantList
	err := r.List(ctx, &l)
	grants := make([]*gatewayv1.ReferenceGrant, len(l.Items))
	for i := range l.Items {
		grants[i] = (*gatewayv1.ReferenceGrant)(&l.Items[i])
	}
	return grants, err
}

// grantSource is the source of the events of ReferenceGrants, a kind that the
// API server need not serve, or serves in an older version only:
//
//	      served, cache filled
//	off ------------------------> on
//	 ^                            |
//	 +----------------------------+
//	  not served, twice in a row
//
// While it is on it keeps to one version for as long as that is served, and goes
// over to another one only with that one's cache filled.
//
// Every change of state leads to a build. The source counts as synced after the
// first clear answer: not served, or served and the cache filled.
type grantSource struct {
	// cache holds ReferenceGrants and nothing else. The source of a kind waits
	// for every informer that its cache has at that time; one that is given up
	// here would never let it end.
	cache   cache.Cache
	api     *apiDiscovery
	every   time.Duration
	timeout time.Duration // of one try to fill the cache
	events  *trigger
	log     logr.Logger

	on        atomic.Pointer[grantVersion] // nil: off
	absent    int                          // looks in a row that found the kind not served
	said      throttle
	synced    chan struct{}
	closeOnce sync.Once
}

// newGrantSource returns a source that fills c, which must be its own.
func newGrantSource(c cache.Cache, api *apiDiscovery, o Options, events *trigger) *grantSource {
	return &grantSource{
		cache: c, api: api, every: o.DiscoveryInterval, timeout: o.grantsSync,
		events: events, log: o.Log, synced: make(chan struct{}),
	}
}

// list returns all ReferenceGrants, none while the kind is not served.
func (g *grantSource) list(ctx context.Context) ([]*gatewayv1.ReferenceGrant, error) {
	v := g.on.Load()
	if v == nil {
		return nil, nil
	}
	return v.list(ctx, g.cache)
}

// Start begins to look. It implements source.TypedSource.
func (g *grantSource) Start(ctx context.Context, q queue) error {
	go g.run(ctx, q)
	return nil
}

// WaitForSync returns after the first clear answer. It implements
// source.TypedSyncingSource.
func (g *grantSource) WaitForSync(ctx context.Context) error {
	select {
	case <-g.synced:
	case <-ctx.Done():
	}
	return nil
}

// String names the source in logs.
func (g *grantSource) String() string { return "kind source: ReferenceGrant, while served" }

func (g *grantSource) run(ctx context.Context, q queue) {
	for {
		next := g.every
		if err := g.look(ctx, q); err != nil {
			if ctx.Err() != nil {
				return
			}
			if g.said.allow(err.Error()) {
				g.log.Error(err, "cannot tell whether there are ReferenceGrants; trying again")
			}
			if !g.isSynced() {
				next = min(next, grantsRetry)
			}
		} else {
			g.said.reset()
			g.sync(q)
		}
		if wait(ctx, next) != nil {
			return
		}
	}
}

// look asks once and changes the state accordingly.
func (g *grantSource) look(ctx context.Context, q queue) error {
	on := g.on.Load()
	v, err := g.served(ctx, on)
	if err != nil {
		return err
	}
	if v != nil {
		g.absent = 0
		if v == on {
			return nil
		}
		return g.open(ctx, q, v)
	}
	g.absent++
	if g.absent < grantsGone || on == nil {
		return nil
	}
	g.on.Store(nil)
	g.log.Info("ReferenceGrant is no longer served; references into other namespaces are refused")
	g.events.fire(q)
	return g.cache.RemoveInformer(ctx, on.object)
}

// served returns the version to watch: on, unless nil, if the API server serves
// it, else the first that it serves; nil if it serves none.
func (g *grantSource) served(ctx context.Context, on *grantVersion) (*grantVersion, error) {
	order := grantVersions
	if on != nil {
		order = append([]*grantVersion{on}, grantVersions...)
	}
	for i, v := range order {
		if i > 0 && v == on {
			continue // asked already
		}
		missing, err := g.api.missing(ctx, v.groupVersion, grantsResource)
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return v, nil
		}
	}
	return nil, nil
}

// open fills the cache with a version, begins to follow it, and lets the version
// before go.
func (g *grantSource) open(ctx context.Context, q queue, v *grantVersion) error {
	if err := g.follow(ctx, q, v); err != nil {
		// Without the informer the next look starts from scratch.
		_ = g.cache.RemoveInformer(ctx, v.object)
		return fmt.Errorf("watch ReferenceGrants: %w", err)
	}
	before := g.on.Swap(v)
	g.log.V(1).Info("watching ReferenceGrants", "version", v.groupVersion)
	g.events.fire(q)
	if before != nil {
		return g.cache.RemoveInformer(ctx, before.object)
	}
	return nil
}

// follow returns once the cache has all ReferenceGrants of a version.
func (g *grantSource) follow(ctx context.Context, q queue, v *grantVersion) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout) // the kind may have gone since it was seen
	defer cancel()
	inf, err := g.cache.GetInformer(ctx, v.object)
	if err != nil {
		return err
	}
	_, err = inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { g.events.fire(q) },
		UpdateFunc: func(old, new any) {
			if specChanged(old.(client.Object), new.(client.Object)) {
				g.events.fire(q)
			}
		},
		DeleteFunc: func(any) { g.events.fire(q) },
	})
	if err != nil {
		return err
	}
	// GetInformer waits only in a cache that has started.
	if !g.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	return nil
}

func (g *grantSource) isSynced() bool {
	select {
	case <-g.synced:
		return true
	default:
		return false
	}
}

// sync reports the first clear answer. It asks for a build whatever the cluster
// holds: without any object there is no other event, and an empty cluster is
// ready to be served as well.
func (g *grantSource) sync(q queue) {
	g.closeOnce.Do(func() {
		g.events.fire(q)
		close(g.synced)
	})
}
