package controllers

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// key is the one key of the work queue.
type key struct{}

// queue is the work queue.
type queue = workqueue.TypedRateLimitingInterface[key]

// trigger leads events to the one key. Safe for concurrent use.
type trigger struct {
	holdOff time.Duration

	mu    sync.Mutex
	since time.Time // of the first event that no build has taken; zero: none
}

// fire asks for a build one hold-off from now. A build that is already waited
// for stays where it is, so that events without end cannot put it off.
func (t *trigger) fire(q queue) {
	t.mu.Lock()
	if t.since.IsZero() {
		t.since = time.Now()
	}
	t.mu.Unlock()
	q.AddAfter(key{}, t.holdOff)
}

// take returns the time of the first event since the last take. A build calls
// it before it lists, so it sees at least the events before.
func (t *trigger) take() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := t.since
	t.since = time.Time{}
	return since
}

// giveBack returns what take has given, for a build that came to nothing.
func (t *trigger) giveBack(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() || (!since.IsZero() && since.Before(t.since)) {
		t.since = since
	}
}

// watches returns a source for each kind that every cluster with our CRDs has.
// nudge gets every update of an object of ours.
func watches(c cache.Cache, t *trigger, refs *referred, nudge func(objectKey)) []source.TypedSource[key] {
	return []source.TypedSource[key]{
		watchKind(c, &v1alpha1.ProxyRoute{}, t, routeChanged, nil, nudge),
		watchKind(c, &v1alpha1.BackendPolicy{}, t, policyChanged, nil, nudge),
		watchKind(c, &v1alpha1.ProxyClass{}, t, classChanged, nil, nudge),
		watchKind(c, &corev1.Service{}, t, serviceChanged, refs.service, nil),
		watchKind(c, &discoveryv1.EndpointSlice{}, t, sliceChanged, refs.slice, nil),
		watchKind(c, &corev1.Namespace{}, t, namespaceChanged, nil, nil),
	}
}

// watchKind returns a source of the events of one kind. changed says whether an
// update could change what is built; matters, unless nil, whether an object
// could. nudge, unless nil, gets every update, whatever changed.
func watchKind[T client.Object](c cache.Cache, of T, t *trigger, changed func(old, new T) bool, matters func(T) bool, nudge func(objectKey)) source.TypedSource[key] {
	if matters == nil {
		matters = func(T) bool { return true }
	}
	return source.TypedKind[T, key](c, of, handler.TypedFuncs[T, key]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[T], q queue) {
			if matters(e.Object) {
				t.fire(q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[T], q queue) {
			if nudge != nil {
				nudge(keyOf(e.ObjectNew))
			}
			if changed(e.ObjectOld, e.ObjectNew) && (matters(e.ObjectOld) || matters(e.ObjectNew)) {
				t.fire(q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[T], q queue) {
			if matters(e.Object) {
				t.fire(q)
			}
		},
	})
}
