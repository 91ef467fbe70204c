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
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	// grantsResource is the resource of ReferenceGrant.
	grantsResource = "referencegrants"

	// grantsSync bounds one try to fill the cache of ReferenceGrants; the kind
	// may have gone since it was seen.
	grantsSync = 30 * time.Second

	// grantsGone is how many looks in a row must find that ReferenceGrant is not
	// served before the grants that are known are dropped. Dropping them cuts
	// traffic, so one odd answer is not enough; keeping them for ever would
	// leave grants in force that nobody can see or revoke.
	grantsGone = 2

	// grantsRetry is the time between two looks until the first clear answer,
	// which the first build waits for.
	grantsRetry = time.Second
)

// grantSource is the source of the events of ReferenceGrants, a kind that the
// API server need not serve:
//
//	      served, cache filled
//	off ------------------------> on
//	 ^                            |
//	 +----------------------------+
//	  not served, twice in a row
//
// Every change of state leads to a build. The source counts as synced after the
// first clear answer: not served, or served and the cache filled.
type grantSource struct {
	cache  cache.Cache
	api    *apiDiscovery
	every  time.Duration
	events *trigger
	log    logr.Logger

	on        atomic.Bool
	absent    int // looks in a row that found the kind not served
	said      throttle
	synced    chan struct{}
	closeOnce sync.Once
}

func newGrantSource(c cache.Cache, api *apiDiscovery, every time.Duration, events *trigger, log logr.Logger) *grantSource {
	return &grantSource{cache: c, api: api, every: every, events: events, log: log, synced: make(chan struct{})}
}

// active says whether the cache has a complete list of ReferenceGrants.
func (g *grantSource) active() bool { return g.on.Load() }

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
func (g *grantSource) String() string { return "kind source: *v1.ReferenceGrant, while served" }

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
	missing, err := g.api.missing(ctx, gatewayv1.GroupVersion.String(), grantsResource)
	switch {
	case err != nil:
		return err
	case len(missing) == 0:
		g.absent = 0
		if g.on.Load() {
			return nil
		}
		return g.open(ctx, q)
	}
	g.absent++
	if g.absent < grantsGone || !g.on.Load() {
		return nil
	}
	g.on.Store(false)
	g.log.Info("ReferenceGrant is no longer served; references into other namespaces are refused")
	g.events.fire(q)
	return g.cache.RemoveInformer(ctx, &gatewayv1.ReferenceGrant{})
}

// open fills the cache and begins to follow it.
func (g *grantSource) open(ctx context.Context, q queue) error {
	sync, cancel := context.WithTimeout(ctx, grantsSync)
	defer cancel()
	inf, err := g.cache.GetInformer(sync, &gatewayv1.ReferenceGrant{})
	if err == nil {
		_, err = inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { g.events.fire(q) },
			UpdateFunc: func(old, new any) {
				if specChanged(old.(*gatewayv1.ReferenceGrant), new.(*gatewayv1.ReferenceGrant)) {
					g.events.fire(q)
				}
			},
			DeleteFunc: func(any) { g.events.fire(q) },
		})
	}
	if err != nil {
		// Without the informer the next look starts from scratch.
		_ = g.cache.RemoveInformer(ctx, &gatewayv1.ReferenceGrant{})
		return fmt.Errorf("watch ReferenceGrants: %w", err)
	}
	g.on.Store(true)
	g.log.V(1).Info("watching ReferenceGrants")
	g.events.fire(q)
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
