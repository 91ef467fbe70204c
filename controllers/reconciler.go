package controllers

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

// reconciler turns what the caches hold into the plan in force and the latest
// verdicts. The controller calls it with one key, hence from one goroutine at a
// time, and not before all caches have synced.
type reconciler struct {
	reader   client.Reader
	grants   grantLister
	applier  Applier
	verdicts interface{ publish(verdictSet) }
	events   *trigger
	metrics  *metrics
	log      logr.Logger
	zone     string // where the process runs; "" = not known
	node     string

	classes    []string // empty: all
	replicasOf types.NamespacedName
	replicas   func(n int) // nil: nobody wants to know
	census     *census     // nil: the same

	referred referred
	builder  translate.Builder
	applied  map[types.NamespacedName]version // routes that the plan in force serves
	ran      bool                             // a plan was applied
	warned   throttle
}

// grantLister lists the ReferenceGrants; none while the kind is not served.
type grantLister interface {
	list(context.Context) ([]*gatewayv1.ReferenceGrant, error)
}

// version is one generation of one object; names are used again.
type version struct {
	uid        types.UID
	generation int64
}

// Reconcile lists, builds, applies and publishes. An error makes the work queue
// call it again with backoff; an event makes it come sooner.
func (r *reconciler) Reconcile(ctx context.Context, _ key) (_ reconcile.Result, err error) {
	since := r.events.take()
	done := false
	defer func() {
		if !done { // also after a panic, which the controller recovers
			r.events.giveBack(since)
		}
	}()

	snapshot, err := r.snapshot(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	start := time.Now()
	result := r.builder.Build(snapshot)
	r.metrics.builds.Inc()
	r.warn(result.Warnings)

	r.count(snapshot.EndpointSlices)
	built := time.Now()
	refused := r.applier.Apply(result.Plan)
	if refused == nil {
		done = true
		r.applied = served(snapshot.Routes, result.Verdicts)
		r.metrics.applied(since)
		r.logApplied(snapshot, built.Sub(start), time.Since(built))
	} else {
		r.metrics.applyFailures.Inc()
	}
	set := judge(snapshot, result, r.applied, refused)
	r.metrics.countRoutes(set)
	r.verdicts.publish(set)
	if refused != nil {
		return reconcile.Result{}, fmt.Errorf("the data plane refused the plan and keeps the one before: %w", refused)
	}
	return reconcile.Result{}, nil
}

// snapshot lists everything. The order matters: see referred.
func (r *reconciler) snapshot(ctx context.Context) (translate.Snapshot, error) {
	var (
		s          translate.Snapshot
		routes     v1alpha1.ProxyRouteList
		policies   v1alpha1.BackendPolicyList
		classes    v1alpha1.ProxyClassList
		services   corev1.ServiceList
		slices     discoveryv1.EndpointSliceList
		namespaces corev1.NamespaceList
	)
	for _, list := range []client.ObjectList{&routes, &policies, &classes} {
		if err := r.reader.List(ctx, list); err != nil {
			return s, fmt.Errorf("list %T from the cache: %w", list, err)
		}
	}
	s.Routes, s.Policies, s.Classes = pointers(routes.Items), pointers(policies.Items), pointers(classes.Items)
	s = s.OfClasses(r.classes)
	r.referred.update(s.Routes, s.Policies, r.replicasOf)

	for _, list := range []client.ObjectList{&services, &slices, &namespaces} {
		if err := r.reader.List(ctx, list); err != nil {
			return s, fmt.Errorf("list %T from the cache: %w", list, err)
		}
	}
	s.Services, s.EndpointSlices = pointers(services.Items), pointers(slices.Items)
	s.Namespaces = pointers(namespaces.Items)
	grants, err := r.grants.list(ctx)
	if err != nil {
		return s, fmt.Errorf("list ReferenceGrants from the cache: %w", err)
	}
	s.Grants = grants
	s.Zone, s.Node = r.zone, r.node
	return s, nil
}

// count tells who wants to know of the replicas of the proxy. While none is ready,
// as in a moment in which all fail their probes and still have requests, the number
// before stays: with 1, each would let through what is for all.
func (r *reconciler) count(all []*discoveryv1.EndpointSlice) {
	ready, known := readyReplicas(r.replicasOf, all)
	if r.replicas != nil && len(ready) > 0 {
		r.replicas(len(ready))
	}
	r.census.meet(ready, known, time.Now())
}

func pointers[T any](items []T) []*T {
	p := make([]*T, len(items))
	for i := range items {
		p[i] = &items[i]
	}
	return p
}

// served returns the versions of the routes that a plan serves.
func served(routes []*v1alpha1.ProxyRoute, v translate.Verdicts) map[types.NamespacedName]version {
	m := make(map[types.NamespacedName]version, len(routes))
	for _, route := range routes {
		name := client.ObjectKeyFromObject(route)
		if v.Routes[name].Served {
			m[name] = version{route.UID, route.Generation}
		}
	}
	return m
}

// warn logs what no condition has a place for, when it changes.
func (r *reconciler) warn(warnings []string) {
	if len(warnings) == 0 {
		r.warned.reset()
		return
	}
	msg := fmt.Sprint(warnings)
	if r.warned.allow(msg) {
		r.log.Info("some objects are left out", "warnings", warnings)
	}
}

func (r *reconciler) logApplied(s translate.Snapshot, build, apply time.Duration) {
	log := r.log.V(1)
	if !r.ran {
		r.ran, log = true, r.log
	}
	log.Info("applied a plan", "routes", len(s.Routes), "services", len(s.Services),
		"endpointSlices", len(s.EndpointSlices), "build", build.String(), "apply", apply.String())
}
