package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

const (
	// never is a time that no process sees the end of: the caches may take as
	// long as the API server is away.
	never = 100 * 365 * 24 * time.Hour

	// Between two tries to apply a plan that was refused.
	minRetry = 200 * time.Millisecond
	maxRetry = 15 * time.Second

	// stopGrace bounds what Run waits for after its context has ended, the
	// release of the Lease above all.
	stopGrace = 5 * time.Second

	// Status writes per second, and how many may come at once. They bound what
	// a change of 5,000 routes does to the API server (it takes 100 s).
	statusQPS   = 50
	statusBurst = 100

	// eventSource is the reporting controller of Events.
	eventSource = "ferrum.dev/controller"
)

// newScheme knows every kind that is watched.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, v1alpha1.AddToScheme, gatewayv1.Install, gatewayv1beta1.Install,
	} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("build the scheme: %w", err)
		}
	}
	return s, nil
}

// newMapper maps the kinds that are watched to their resources. It is fixed, so
// that neither an API server that is away nor a CRD that is missing can fail an
// informer: its lists fail, and are tried again until they do not.
func newMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	core, own := corev1.SchemeGroupVersion, v1alpha1.GroupVersion
	gateway, beta := schema.GroupVersion(gatewayv1.GroupVersion), schema.GroupVersion(gatewayv1beta1.GroupVersion)
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{core, discoveryv1.SchemeGroupVersion, own, gateway, beta})
	add := func(gv schema.GroupVersion, scope meta.RESTScope, kinds ...string) {
		for _, kind := range kinds {
			m.Add(gv.WithKind(kind), scope)
			m.Add(gv.WithKind(kind+"List"), scope) // a cache of some namespaces asks for the scope of what it lists
		}
	}
	add(core, meta.RESTScopeNamespace, "Service")
	add(core, meta.RESTScopeRoot, "Namespace")
	add(discoveryv1.SchemeGroupVersion, meta.RESTScopeNamespace, "EndpointSlice")
	add(own, meta.RESTScopeNamespace, "ProxyRoute", "BackendPolicy")
	add(own, meta.RESTScopeRoot, "ProxyClass")
	add(gateway, meta.RESTScopeNamespace, "ReferenceGrant")
	add(beta, meta.RESTScopeNamespace, "ReferenceGrant")
	return m, nil
}

// cacheOptions returns what all caches have in common. The manager sets the rest
// for its own.
func cacheOptions(o Options, w *watchErrors) cache.Options {
	yes := true
	namespaces := namespaceConfigs(o.Namespaces)
	byObject := make(map[client.Object]cache.ByObject)
	if own := o.ReplicasOf.Namespace; own != "" && namespaces != nil {
		// Where the replicas are has to be known; the Services there stay out of
		// the cache, so that no route reaches these endpoints.
		byObject[&discoveryv1.EndpointSlice{}] = cache.ByObject{Namespaces: namespaceConfigs(append(slices.Clip(o.Namespaces), own))}
	}
	return cache.Options{
		DefaultNamespaces:           namespaces,
		ByObject:                    byObject,
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            slim(o.ReplicasOf),
		// Lists hand out what the caches hold. Every reader in this package
		// treats it as read-only.
		DefaultUnsafeDisableDeepCopy: &yes,
		DefaultWatchErrorHandler:     w.handle,
		NewInformer: func(lw toolscache.ListerWatcher, obj runtime.Object, resync time.Duration, ix toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(patient(lw, kindOf(obj), w.report), obj, resync, ix)
		},
	}
}

// namespaceConfigs returns what limits a cache to namespaces; nil, for none, to all.
func namespaceConfigs(names []string) map[string]cache.Config {
	if len(names) == 0 {
		return nil
	}
	configs := make(map[string]cache.Config, len(names))
	for _, ns := range names {
		configs[ns] = cache.Config{}
	}
	return configs
}

// newGrantCache makes the cache of the grantSource and adds it to mgr.
func newGrantCache(mgr manager.Manager, o Options, w *watchErrors) (cache.Cache, error) {
	co := cacheOptions(o, w)
	co.Scheme, co.Mapper, co.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	c, err := cache.New(mgr.GetConfig(), co)
	if err != nil {
		return nil, fmt.Errorf("make the cache of ReferenceGrants: %w", err)
	}
	if err := mgr.Add(onEveryReplica(c.Start)); err != nil {
		return nil, fmt.Errorf("add to the controller manager: %w", err)
	}
	return c, nil
}

// newManager makes a manager that holds the caches and starts and stops what
// runs on them. Its own leader election, which would end the process with the
// Lease, and its servers are off.
func newManager(cfg *rest.Config, o Options, w *watchErrors) (manager.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	yes, no, grace := true, false, stopGrace
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:                  scheme,
		MapperProvider:          newMapper,
		Logger:                  o.Log.V(1), // errors are errors still; that workers start is no news
		Cache:                   cacheOptions(o, w),
		LeaderElection:          false,
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress:  "0",
		GracefulShutdownTimeout: &grace,
		Controller: config.Controller{
			NeedLeaderElection: &no,
			SkipNameValidation: &yes,
			CacheSyncTimeout:   never,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the controller manager: %w", err)
	}
	return mgr, nil
}

// setup adds the reconciler with its watches, the status writer and the elector
// to mgr.
func setup(mgr manager.Manager, cfg *rest.Config, api *apiDiscovery, o Options, m *metrics, w *watchErrors) error {
	statusCfg := rest.CopyConfig(cfg)
	statusCfg.QPS, statusCfg.Burst = statusQPS, statusBurst
	statusClient, err := client.New(statusCfg, client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("make a client for statuses: %w", err)
	}
	statusClient = client.WithFieldOwner(statusClient, o.fieldOwner())
	writer := newStatusWriter(mgr.GetCache(), statusClient, o.Log, m, o.Health)
	writer.live, writer.owner = statusClient, o.fieldOwner()
	if o.Peers != nil {
		writer.census = &census{}
	}
	elector, err := newElector(cfg, o, writer)
	if err != nil {
		return err
	}

	events := &trigger{holdOff: o.HoldOff}
	grantCache, err := newGrantCache(mgr, o, w)
	if err != nil {
		return err
	}
	grants := newGrantSource(grantCache, api, o, events)
	r := &reconciler{
		reader: mgr.GetCache(), grants: grants, applier: o.Applier, verdicts: writer,
		events: events, metrics: m, log: o.Log, zone: o.Zone, node: o.Node,
		classes: o.Classes, replicasOf: o.ReplicasOf, replicas: o.Replicas, census: writer.census,
		builder: translate.Builder{KeepLastGood: true},
	}
	c, err := controller.NewTyped("plan", mgr, controller.TypedOptions[key]{
		Reconciler:  r,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[key](minRetry, maxRetry),
	})
	if err != nil {
		return fmt.Errorf("make the controller: %w", err)
	}
	sources := append(watches(mgr.GetCache(), events, &r.referred, writer.nudge), source.TypedSource[key](grants))
	for _, s := range sources {
		if err := c.Watch(s); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	runs := []func(context.Context) error{writer.run, elector.run}
	if o.Health != nil {
		h := &healthWatch{
			writer: writer, health: o.Health, transitions: o.Transitions, reader: mgr.GetCache(),
			recorder: mgr.GetEventRecorder(eventSource), log: o.Log,
		}
		runs = append(runs, h.run)
	}
	if o.Peers != nil {
		p := &poller{writer: writer, census: writer.census, peers: o.Peers, metrics: m, log: o.Log}
		runs = append(runs, p.run)
	}
	for _, run := range runs {
		if err := mgr.Add(onEveryReplica(run)); err != nil {
			return fmt.Errorf("add to the controller manager: %w", err)
		}
	}
	return nil
}

// onEveryReplica is a Runnable that does not wait for the manager's election.
type onEveryReplica func(context.Context) error

// Start runs it.
func (f onEveryReplica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection says no.
func (onEveryReplica) NeedLeaderElection() bool { return false }
