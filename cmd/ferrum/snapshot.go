package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/planfile"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// probeTimeout of one look whether the API server answers, and probePause
	// between two. When snapshotTries in a row have failed, the snapshot is
	// served: within 1.4 s, whether the API server refuses or hangs.
	probeTimeout  = 600 * time.Millisecond
	probePause    = 200 * time.Millisecond
	snapshotTries = 2

	// snapshotPatience is how long an API server that answers may take to give
	// the first plan. It may never: it is up and says so, and fails or refuses
	// every list, or has an object that cannot be read.
	snapshotPatience = 10 * time.Second
)

// keeper stands between the controllers and the data plane. It keeps each plan
// that is served in a file, and serves that one at a start at which the API
// server cannot be reached or gives nothing to serve. The first plan of the
// controllers ends that.
type keeper struct {
	apply func(plan.Plan) error
	// replicas is told how many replicas of the proxy are ready; nil: nobody wants
	// to know.
	replicas func(n int)
	answers  func(context.Context) bool // the API server does
	store    *planfile.Store
	log      logr.Logger
	inUse    prometheus.Gauge

	mu    sync.Mutex
	ready int  // replicas; 0: not known
	real  bool // the controllers have given a plan
	stale bool // that of the file is served
}

func newKeeper(dir string, cfg *rest.Config, apply func(plan.Plan) error, metrics prometheus.Registerer, log logr.Logger) (*keeper, error) {
	answers, err := answering(cfg)
	if err != nil {
		return nil, err
	}
	inUse := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ferrum_config_snapshot_in_use",
		Help: "1 while the plan of an earlier process is served because the API server gave none at the start.",
	})
	writes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ferrum_config_snapshot_writes_total",
		Help: "Plans written to the directory of the snapshot, by result.",
	}, []string{"result"})
	good, bad := writes.WithLabelValues("success"), writes.WithLabelValues("error")
	for _, c := range []prometheus.Collector{inUse, writes} {
		if err := metrics.Register(c); err != nil {
			return nil, err
		}
	}
	failing := false // of the goroutine that writes
	store, err := planfile.New(dir, func(err error) {
		if err == nil {
			failing = false
			good.Inc()
			return
		}
		bad.Inc()
		if !failing {
			log.Error(err, "cannot write the snapshot; trying again in some seconds", "directory", dir)
		}
		failing = true
	})
	if err != nil {
		return nil, err
	}
	return &keeper{apply: apply, answers: answers, store: store, log: log, inUse: inUse}, nil
}

// setReplicas passes on how many replicas are ready, and keeps it with the plan that
// follows.
func (k *keeper) setReplicas(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready = n
	k.replicas(n)
}

// Apply implements controllers.Applier.
func (k *keeper) Apply(p plan.Plan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.apply(p); err != nil {
		return err
	}
	if k.stale {
		k.log.Info("the API server has given all that there is to serve: the snapshot is not served any more")
	}
	k.real, k.stale = true, false
	k.inUse.Set(0)
	k.store.Save(planfile.Saved{Plan: p, Replicas: k.ready})
	return nil
}

// run runs the source of plans with what belongs to the snapshot, until ctx ends
// or the source does.
func (k *keeper) run(ctx context.Context, source func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() { k.store.Run(ctx) })
	beside.Go(func() { k.bridge(ctx) })
	return source(ctx)
}

// bridge serves the snapshot when the API server does not answer before the
// controllers have given a plan, or answers and they have none for long.
func (k *keeper) bridge(ctx context.Context) {
	began := time.Now()
	for failed := 0; !k.served(); {
		if k.answers(ctx) {
			failed = 0
		} else if failed++; failed == snapshotTries {
			k.restore("the API server does not answer")
			return
		}
		if time.Since(began) >= snapshotPatience {
			k.restore("the API server answers, but not with all that there is to serve")
			return
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return
		}
	}
}

func (k *keeper) served() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.real
}

// restore serves what is in the file, unless the controllers were faster. why is
// for the log.
func (k *keeper) restore(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.real {
		return
	}
	saved, written, err := k.store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		k.log.Info(why + ", and there is no snapshot: nothing is served until it does")
		return
	}
	if err == nil {
		if k.replicas != nil && k.ready == 0 && saved.Replicas > 0 {
			k.ready = saved.Replicas
			k.replicas(k.ready)
		}
		err = k.apply(saved.Plan)
	}
	if err != nil {
		k.log.Error(err, why+", and the snapshot cannot be used: nothing is served until it does")
		return
	}
	k.stale = true
	k.inUse.Set(1)
	k.log.Info(why+": serving the snapshot of an earlier process", "written", written.UTC(),
		"routes", len(saved.Plan.Routes), "pools", len(saved.Plan.Pools))
}

// answering returns what asks the API server whether it is of use. That it
// refuses to say is a sign of life. It is asked for /readyz: with its etcd away
// it still answers /version, and can list nothing.
func answering(cfg *rest.Config) (func(context.Context) bool, error) {
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	url := base.JoinPath("readyz").String()
	return func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
		return err == nil && res.StatusCode < 500
	}, nil
}
