package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

const (
	// statusWorkers write at the same time, so that the latency of the API
	// server is not what bounds the writes.
	statusWorkers = 4

	// Between two tries of a write that failed.
	minWriteRetry = 500 * time.Millisecond
	maxWriteRetry = 30 * time.Second

	// healthPause is the least time between two writes of a status for the
	// health of backends alone: endpoints that flap must not become a load on
	// the API server.
	healthPause = 10 * time.Second
)

// belowVerdicts is the priority in the queue of objects that are looked at because
// of the health of backends or the number of replicas alone. With many endpoints
// that flap there are always some, and more than may be written in a second; what
// becomes of an edit must not wait behind them.
var belowVerdicts = -1

// statusWriter brings the statuses of objects to what the latest verdicts say,
// while this replica leads. Objects that may need a write wait in a queue by
// name, so however often a verdict changes meanwhile, one write follows. An
// object gets there when its verdict changes, when it is updated in the API
// (by us, by a user, by a writer that lost a race), and, all of them, when this
// replica becomes the leader.
//
// Its methods may be called concurrently and do not wait for writes.
type statusWriter struct {
	reader  client.Reader // the caches
	client  client.StatusClient
	log     logr.Logger
	metrics *metrics
	health  Health        // nil: statuses say nothing of it
	census  *census       // nil: routes are judged by what this replica serves
	news    chan struct{} // holds something after new verdicts; for healthWatch
	asks    chan struct{} // the same; for poller
	queue   priorityqueue.PriorityQueue[objectKey]

	live   client.Reader // the API server, to find out who else writes; nil: nobody asks
	owner  string        // the field manager of our own writes
	rivals throttle

	mu       sync.Mutex
	verdicts verdictSet
	term     context.Context      // nil unless leading; ends with the leadership
	stands   map[objectKey]*stand // of what was written in this term
}

func newStatusWriter(reader client.Reader, c client.StatusClient, log logr.Logger, m *metrics, health Health) *statusWriter {
	return &statusWriter{
		reader: reader, client: c, log: log, metrics: m, health: health,
		news: make(chan struct{}, 1), asks: make(chan struct{}, 1), stands: make(map[objectKey]*stand),
		queue: priorityqueue.New("status", func(o *priorityqueue.Opts[objectKey]) {
			o.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[objectKey](minWriteRetry, maxWriteRetry)
		}),
	}
}

// publish makes set the latest verdicts.
func (w *statusWriter) publish(set verdictSet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.verdicts
	w.verdicts = set
	signal(w.news)
	signal(w.asks)
	if w.term == nil {
		return
	}
	for key := range w.stands {
		if _, ok := set[key]; !ok {
			delete(w.stands, key)
		}
	}
	for key, v := range set {
		if old, ok := before[key]; !ok || !v.equal(old) {
			w.queue.Add(key)
		}
	}
}

// latest returns the latest verdicts and whether this replica writes statuses.
func (w *statusWriter) latest() (verdictSet, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdicts, w.term != nil
}

// nudge has the status of one object looked at.
func (w *statusWriter) nudge(key objectKey) { w.add(key, priorityqueue.AddOpts{}) }

// nudgeHealth has the status of one object looked at when there is time: there is
// news of the health of its backends.
func (w *statusWriter) nudgeHealth(key objectKey) {
	w.add(key, priorityqueue.AddOpts{Priority: &belowVerdicts})
}

func (w *statusWriter) add(key objectKey, o priorityqueue.AddOpts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term != nil {
		w.queue.AddWithOpts(o, key)
	}
}

// refresh has the statuses of all routes that are served looked at, one after the
// other with a pause.
func (w *statusWriter) refresh(pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term == nil {
		return
	}
	var after time.Duration
	for key, v := range w.verdicts {
		if v.inForce {
			w.queue.AddWithOpts(priorityqueue.AddOpts{After: after, Priority: &belowVerdicts}, key)
			after += pause
		}
	}
}

// lead begins to write, until term ends or follow is called.
func (w *statusWriter) lead(term context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term.Err() != nil {
		return // the term ended before this call got here
	}
	w.term = term
	clear(w.stands) // another replica may have written meanwhile
	w.metrics.statusLeader.Set(1)
	signal(w.news)
	signal(w.asks)
	for key := range w.verdicts {
		w.queue.Add(key)
	}
}

// follow stops to write.
func (w *statusWriter) follow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.term = nil
	signal(w.asks)
	w.metrics.statusLeader.Set(0)
}

// run writes until ctx ends.
func (w *statusWriter) run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range statusWorkers {
		workers.Go(func() {
			for w.next() {
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	workers.Wait()
	return nil
}

// next handles one object of the queue; false when the queue was shut down.
func (w *statusWriter) next() bool {
	key, priority, shutdown := w.queue.GetWithPriority()
	if shutdown {
		return false
	}
	defer w.queue.Done(key)
	w.mu.Lock()
	v, ok := w.verdicts[key]
	term := w.term
	w.mu.Unlock()
	if !ok || term == nil {
		w.queue.Forget(key)
		return true
	}
	if err := w.bring(term, key, v); err != nil && term.Err() == nil {
		w.metrics.statusWrites.WithLabelValues(writeFailed).Inc()
		w.log.Error(err, "cannot write a status; trying again", "object", key.String())
		w.queue.AddWithOpts(priorityqueue.AddOpts{RateLimited: true, Priority: &priority}, key)
		return true
	}
	w.queue.Forget(key)
	return true
}

// change is a status that is to be written.
type change struct {
	before, after client.Object // as cached, and with the status
	claim         claim
	undone        bool // what differs is somebody else's doing
	rival         bool // and that for the second time in a row
}

// bring makes one status what its verdict says, if it is not. A verdict on
// another version than the cached one is out of date: the next build judges
// again.
func (w *statusWriter) bring(ctx context.Context, key objectKey, v verdict) error {
	c, err := w.compare(ctx, key, v)
	if err != nil || c == nil {
		return client.IgnoreNotFound(err) // of a deleted object
	}
	if c.rival {
		w.rivalry(ctx, key, differences(c.before, c.after))
	}
	patch := client.MergeFromWithOptions(c.before, client.MergeFromWithOptimisticLock{})
	switch err := w.client.Status().Patch(ctx, c.after, patch); {
	case err == nil:
		w.note(key, c, time.Now())
		w.metrics.statusWrites.WithLabelValues(writeDone).Inc()
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		w.metrics.statusWrites.WithLabelValues(writeDropped).Inc()
	default:
		return fmt.Errorf("patch the status of %s: %w", key, err)
	}
	return nil
}

// compare returns what is to be written now so that the status of an object says
// what v wants; nil when that is nothing.
func (w *statusWriter) compare(ctx context.Context, key objectKey, v verdict) (*change, error) {
	before := newObject(key.kind)
	if err := w.reader.Get(ctx, key.NamespacedName, before); err != nil {
		return nil, err
	}
	if v.version != (version{before.GetUID(), before.GetGeneration()}) {
		return nil, nil
	}
	c := claim{verdict: v, health: judgeHealth(v.route, w.health)}
	if route, ok := before.(*v1alpha1.ProxyRoute); ok && v.inForce {
		o := w.census.judge(v.version, route, time.Now())
		if o.hold {
			return nil, nil
		}
		c.verdict, c.replicas = v.with(o.condition), o.counts
	}
	c.route = nil // a plan is not to be kept for it
	conditions, changed := merge(*conditionsOf(before), c.with(c.health.condition))
	healthAlone := false
	if route, ok := before.(*v1alpha1.ProxyRoute); ok {
		healthAlone = route.Status.ObservedGeneration == c.generation && slices.Equal(route.Status.Hostnames, c.hostnames) &&
			equality.Semantic.DeepEqual(route.Status.Replicas, c.replicas) &&
			sameBut(v1alpha1.ConditionBackendsHealthy, *conditionsOf(before), conditions)
		changed = !healthAlone || changed || !slices.Equal(route.Status.Rules, c.health.rules)
	}
	next := &change{before: before, claim: c}
	if !changed || w.hold(key, next, healthAlone, time.Now()) {
		return nil, nil
	}
	next.after = before.DeepCopyObject().(client.Object)
	*conditionsOf(next.after) = conditions
	if route, ok := next.after.(*v1alpha1.ProxyRoute); ok {
		route.Status.ObservedGeneration, route.Status.Hostnames = c.generation, slices.Clone(c.hostnames) // what the API server answers is read into it
		route.Status.Rules, route.Status.Replicas = c.health.rules, c.replicas.DeepCopy()
	}
	return next, nil
}

// hold says whether it is too soon for a change, which may be of the health of
// backends alone; then it has the object looked at again when it is time. It says
// in the change whose doing that is.
func (w *statusWriter) hold(key objectKey, c *change, healthAlone bool, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stands[key]
	c.undone = s.wasUndone(c.claim, c.before.GetResourceVersion(), healthAlone)
	c.rival = c.undone && s.undone == 1 && now.Sub(s.at) < peace
	rest := s.due(c.undone, healthAlone).Sub(now)
	if rest <= 0 {
		return false
	}
	w.queue.AddWithOpts(priorityqueue.AddOpts{After: rest, Priority: &belowVerdicts}, key)
	return true
}

// note notes that a change was written.
func (w *statusWriter) note(key objectKey, c *change, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stands[key] = w.stands[key].next(c.claim, c.before.GetResourceVersion(), c.undone, now)
}

// newObject returns an empty object of a kind.
func newObject(k kind) client.Object {
	switch k {
	case kindRoute:
		return &v1alpha1.ProxyRoute{}
	case kindPolicy:
		return &v1alpha1.BackendPolicy{}
	default:
		return &v1alpha1.ProxyClass{}
	}
}

// conditionsOf returns where an object of ours has its conditions.
func conditionsOf(o client.Object) *[]metav1.Condition {
	switch o := o.(type) {
	case *v1alpha1.ProxyRoute:
		return &o.Status.Conditions
	case *v1alpha1.BackendPolicy:
		return &o.Status.Conditions
	default:
		return &o.(*v1alpha1.ProxyClass).Status.Conditions
	}
}
