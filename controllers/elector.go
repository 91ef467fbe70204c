package controllers

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// elector campaigns for the status writer's Lease, again and again: a Lease that
// is lost pauses the writer and has no other effect.
//
// Around a change of the leader two replicas may both believe to lead for a
// moment (the old one until its call to the API server gives up). The guarded
// patches of statusWriter make that harmless.
type elector struct {
	config leaderelection.LeaderElectionConfig
	log    logr.Logger
}

func newElector(cfg *rest.Config, o Options, w *statusWriter) (*elector, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = o.Lease.RenewDeadline / 2 // so that a call without an answer leaves time for another
	leases, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for Leases: %w", err)
	}
	log := o.Log.WithValues("lease", o.LeaseNamespace+"/"+o.LeaseName)
	e := &elector{log: log, config: leaderelection.LeaderElectionConfig{
		Lock: &loggedLock{log: log, Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.LeaseNamespace, Name: o.LeaseName},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
		}},
		LeaseDuration:   o.Lease.Duration,
		RenewDeadline:   o.Lease.RenewDeadline,
		RetryPeriod:     o.Lease.RetryPeriod,
		ReleaseOnCancel: true,
		Name:            o.LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) {
				log.Info("this replica writes statuses")
				w.lead(term)
			},
			OnStoppedLeading: func() {
				log.V(1).Info("this replica does not write statuses")
				w.follow()
			},
			OnNewLeader: func(identity string) {
				log.V(1).Info("the writer of statuses is known", "identity", identity)
			},
		},
	}}
	return e, nil
}

// run campaigns and leads until ctx ends.
func (e *elector) run(ctx context.Context) error {
	// What the elector would log every RetryPeriod of an outage, loggedLock
	// says better.
	quiet := klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		// A fresh elector has no memory of the term that was lost.
		le, err := leaderelection.NewLeaderElector(e.config)
		if err != nil {
			return err
		}
		le.Run(quiet)
		_ = wait(ctx, e.config.RetryPeriod)
	}
	return nil
}

// loggedLock logs the first of a row of failures to reach or to change a Lease.
type loggedLock struct {
	resourcelock.Interface
	log  logr.Logger
	said throttle
}

// Get reads the Lease. That it does not exist yet is no failure.
func (l *loggedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if !apierrors.IsNotFound(err) {
		l.note(ctx, err)
	}
	return record, raw, err
}

// Create makes the Lease.
func (l *loggedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, r)
	l.note(ctx, err)
	return err
}

// Update changes the Lease. A conflict means that another candidate was faster.
func (l *loggedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, r)
	if !apierrors.IsConflict(err) {
		l.note(ctx, err)
	}
	return err
}

func (l *loggedLock) note(ctx context.Context, err error) {
	switch {
	case err == nil:
		l.said.reset()
	case ctx.Err() == nil && l.said.allow(err.Error()):
		l.log.Error(err, "cannot reach or change the Lease; statuses wait, traffic does not")
	}
}
