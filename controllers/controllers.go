package controllers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// What the process may do in the cluster; config/rbac is generated from it.
//
// +kubebuilder:rbac:groups="",resources=services;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=ferrum.dev,resources=proxyroutes;backendpolicies;proxyclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=ferrum.dev,resources=proxyroutes/status;backendpolicies/status;proxyclasses/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=create,namespace=ferrum-system
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,resourceNames=ferrum-status-writer,verbs=get;update,namespace=ferrum-system

// LeaseName is the name of the Lease that the status writer holds, unless Options
// have another.
const LeaseName = "ferrum-status-writer"

// Applier takes plans; dataplane.Engine is one. Apply is not called
// concurrently. When it returns an error, the plan before must still be in
// force; the plan is built and applied again later.
type Applier interface {
	Apply(plan.Plan) error
}

// Options of Run. The zero value of every field but Applier is usable.
type Options struct {
	// Applier gets the plans. Required.
	Applier Applier

	// Health tells how the endpoints of pools are, for statuses and Events. Nil:
	// they say nothing of it.
	Health Health

	// Transitions gets what becomes known of endpoints, with Health. Nil: the
	// statuses follow when a plan is applied only.
	Transitions *Transitions

	// Zone and Node are where the process runs, for topology hints; "" = not
	// known.
	Zone, Node string

	// ReplicasOf is the Service whose ready endpoints are the replicas of the
	// proxy, and Replicas is told their number with each plan, before it is
	// applied, but not while none is ready. Nil: nobody is.
	ReplicasOf types.NamespacedName
	Replicas   func(n int)

	// Peers asks the replicas of ReplicasOf what they serve, so that Programmed
	// speaks for all that are ready. Nil: it speaks for this one.
	Peers Peers

	// Log takes what the controllers have to say. The zero value says nothing.
	Log logr.Logger

	// Namespaces whose objects are watched; empty: all. ProxyClasses and
	// Namespaces, which have no namespace, are watched in any case: a class
	// grants by the labels of a namespace.
	Namespaces []string

	// Classes are the names of the ProxyClasses that count, with their routes;
	// empty: all. It keeps several installations in a cluster apart: a route whose
	// class is none of these is left alone. See translate.Snapshot.OfClasses.
	Classes []string

	// LeaseNamespace is the namespace of the status writer's Lease; in a cluster
	// the pod's own. Default "ferrum-system".
	LeaseNamespace string

	// LeaseName is the name of that Lease; all replicas have the same, and other
	// installations in the namespace have another. Default: the constant LeaseName.
	LeaseName string

	// Identity distinguishes this process from the other candidates for the
	// Lease. Default: the host name, an underscore and a random UUID.
	Identity string

	// HoldOff is the time between an event and the build that it leads to, in
	// which other events join it. Default 30ms.
	HoldOff time.Duration

	// DiscoveryInterval is the time between two looks whether the API server
	// serves ReferenceGrants. Default 30s.
	DiscoveryInterval time.Duration

	// Lease sets the times of the status writer's election.
	Lease LeaseTimes

	// Registerer takes the metrics of this package. It must not have got them
	// before. Default: the registry of controller-runtime, which the process
	// gathers for /metrics.
	Registerer prometheus.Registerer

	grantsSync time.Duration // of one try to list the ReferenceGrants; default 30s
}

// LeaseTimes are the times of an election. They must satisfy
// Duration > RenewDeadline > 1.2 * RetryPeriod.
type LeaseTimes struct {
	// Duration after which other candidates may take a Lease that was not
	// renewed; whole seconds. Default 15s.
	Duration time.Duration
	// RenewDeadline is how long the holder tries to renew before it pauses.
	// Default 10s.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two tries. Default 2s.
	RetryPeriod time.Duration
}

// adoptLog guards the log of controller-runtime, which is one for the process and
// not safe to set from two Runs that start together.
var adoptLog sync.Once

// Run watches the cluster that cfg names and keeps o.Applier and the statuses
// up to date until ctx ends, then returns nil. It waits for an API server that
// is away and for CRDs that are missing, at the start and at any later time; it
// returns an error only for options or a cfg that cannot work. cfg is not
// changed.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	adoptLog.Do(func() { crlog.SetLogger(o.Log) })
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return err
	}
	api, err := newDiscovery(cfg)
	if err != nil {
		return err
	}
	if !api.waitForKinds(ctx, o.Log) {
		return nil
	}
	w := &watchErrors{log: o.Log, metrics: m}
	mgr, err := newManager(cfg, o, w)
	if err != nil {
		return err
	}
	if err := setup(mgr, cfg, api, o, m, w); err != nil {
		return err
	}
	err = mgr.Start(ctx)
	if ctx.Err() != nil {
		// What goes wrong while stopping, such as a Lease that cannot be
		// released because the API server is away, is no failure of Run.
		if err != nil {
			o.Log.V(1).Info("the controllers stopped", "err", err.Error())
		}
		return nil
	}
	return err
}

// withDefaults returns o with every field set, or an error that names the field
// to correct.
func (o Options) withDefaults() (Options, error) {
	if o.Applier == nil {
		return o, errors.New("controllers: Options.Applier is missing")
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	if o.LeaseNamespace == "" {
		o.LeaseNamespace = "ferrum-system"
	}
	if o.LeaseName == "" {
		o.LeaseName = LeaseName
	}
	if o.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("controllers: the host name, for Options.Identity: %w", err)
		}
		o.Identity = host + "_" + string(uuid.NewUUID())
	}
	setDefault(&o.HoldOff, 30*time.Millisecond)
	setDefault(&o.DiscoveryInterval, 30*time.Second)
	setDefault(&o.grantsSync, 30*time.Second)
	setDefault(&o.Lease.Duration, 15*time.Second)
	setDefault(&o.Lease.RenewDeadline, 10*time.Second)
	setDefault(&o.Lease.RetryPeriod, 2*time.Second)
	if l := o.Lease; l.Duration < time.Second || l.Duration%time.Second != 0 ||
		l.Duration <= l.RenewDeadline || l.RenewDeadline <= l.RetryPeriod*6/5 || l.RetryPeriod < 0 {
		return o, fmt.Errorf("controllers: Options.Lease: it takes Duration %v in whole seconds > RenewDeadline %v > 1.2 * RetryPeriod %v > 0",
			l.Duration, l.RenewDeadline, l.RetryPeriod)
	}
	if o.Registerer == nil {
		o.Registerer = crmetrics.Registry
	}
	return o, nil
}

// fieldOwner is what the API server notes as the writer of a status; it names the
// installation, so that two of them can be told apart.
func (o Options) fieldOwner() string {
	owner := o.LeaseNamespace + "/" + o.LeaseName
	return owner[:min(len(owner), metav1validation.FieldManagerMaxLength)]
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}
