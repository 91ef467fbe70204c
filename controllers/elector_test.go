package controllers

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// sharedLease is a Lease in the API server; each candidate has a lock of it.
type sharedLease struct {
	mu      sync.Mutex
	record  resourcelock.LeaderElectionRecord
	version int
}

// lock is a candidate's view of a Lease.
type lock struct {
	*sharedLease
	identity string
	seen     int
}

func (l *lock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = l.version
	raw, err := json.Marshal(l.record)
	record := l.record
	return &record, raw, err
}

func (l *lock) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	return apierrors.NewAlreadyExists(leases, LeaseName)
}

func (l *lock) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen != l.version {
		return apierrors.NewConflict(leases, LeaseName, nil)
	}
	l.version++
	l.seen, l.record = l.version, r
	return nil
}

func (l *lock) RecordEvent(string) {}
func (l *lock) Identity() string   { return l.identity }
func (l *lock) Describe() string   { return LeaseName + " " + strconv.Itoa(l.seen) }

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

type noApplier struct{}

func (noApplier) Apply(plan.Plan) error { return nil }

// The clock of another replica may be an hour off: what it writes into the Lease
// must neither keep the Lease for an hour after it died nor have it taken from it
// while it lives.
func TestTheClockOfAnotherReplicaDecidesNothing(t *testing.T) {
	for name, off := range map[string]time.Duration{"right": 0, "ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { campaignBeside(t, off) })
		})
	}
}

// campaignBeside runs a candidate beside a holder whose clock is off, and which
// renews the Lease for a while and dies.
func campaignBeside(t *testing.T, off time.Duration) {
	o, err := Options{Applier: noApplier{}, Identity: "a", Registerer: prometheus.NewRegistry()}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		t.Fatal(err)
	}
	w := newStatusWriter(nil, nil, logr.Discard(), m, nil)
	defer w.queue.ShutDown()
	e, err := newElector(&rest.Config{Host: "http://127.0.0.1:1"}, o, w)
	if err != nil {
		t.Fatal(err)
	}
	lease := &sharedLease{}
	renew := func() {
		lease.mu.Lock()
		defer lease.mu.Unlock()
		theirs := metav1.NewTime(time.Now().Add(off))
		lease.version++
		lease.record = resourcelock.LeaderElectionRecord{
			HolderIdentity: "other", LeaseDurationSeconds: int(o.Lease.Duration / time.Second), RenewTime: theirs, AcquireTime: theirs,
		}
	}
	leading := func() bool { _, yes := w.latest(); return yes }
	renew()
	e.config.Lock = &lock{sharedLease: lease, identity: o.Identity}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	for range 60 { // for longer than the Lease lasts without
		renew()
		time.Sleep(o.Lease.RetryPeriod)
		if leading() {
			t.Fatalf("the Lease was taken from a holder that renews it")
		}
	}
	died := time.Now()
	for !leading() && time.Since(died) < time.Hour {
		time.Sleep(time.Second)
	}
	// It looks every 1 to 2.2 RetryPeriods.
	if took := time.Since(died); took < o.Lease.Duration-o.Lease.RetryPeriod || took > o.Lease.Duration+3*o.Lease.RetryPeriod {
		t.Errorf("the Lease of a dead holder was taken after %s", took)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if h := lease.record.HolderIdentity; h != "" {
		t.Errorf("it has stopped, and %q holds the Lease", h)
	}
	if n := lease.record.LeaderTransitions; n != 1 {
		t.Errorf("the Lease changed hands %d times", n)
	}
}
