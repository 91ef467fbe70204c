package controllers

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// Between two tries to reach an API server that does not answer: doubling from
// the first to the second, each drawn from its upper half.
const (
	minPatience = 500 * time.Millisecond
	maxPatience = 5 * time.Second
)

// patient returns lw with lists and watches that wait for an API server that
// cannot be reached instead of failing. A reflector answers failures with a
// delay that grows to a minute, so after an outage of a minute the endpoints
// would be wrong for another; this way it is maxPatience. Answers of the API
// server, errors included, are passed on at once. report gets every failure.
func patient(lw toolscache.ListerWatcher, kind string, report func(kind string, err error)) toolscache.ListerWatcher {
	lister, watcher := toolscache.ToListerWithContext(lw), toolscache.ToWatcherWithContext(lw)
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return outlast(ctx, kind, report, func() (runtime.Object, error) { return whole(lister.ListWithContext(ctx, o)) })
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return outlast(ctx, kind, report, func() (watch.Interface, error) { return watcher.WatchWithContext(ctx, o) })
		},
	}
}

// whole refuses a list without a resourceVersion, which every list of an API
// server has: an answer that something in between has cut or made up could be
// read as an empty one, and would clear the cache.
func whole(list runtime.Object, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	m, err := meta.ListAccessor(list)
	if err == nil && m.GetResourceVersion() == "" {
		err = errors.New("the answer to a list is not that of an API server: it has no resourceVersion")
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// outlast calls do until it succeeds, gets an answer from the API server, or
// ctx ends.
func outlast[T any](ctx context.Context, kind string, report func(string, error), do func() (T, error)) (T, error) {
	for delay := minPatience; ; delay = min(2*delay, maxPatience) {
		v, err := do()
		if err == nil || answered(err) || ctx.Err() != nil {
			return v, err
		}
		report(kind, err)
		if wait(ctx, delay/2+rand.N(delay/2)) != nil {
			return v, err
		}
	}
}

// answered says whether an error is an answer of the API server, as against a
// failure to reach it.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// watchErrors logs and counts what goes wrong with watches.
type watchErrors struct {
	log     logr.Logger
	metrics *metrics
	said    throttle
}

// handle takes the errors that reach a reflector.
func (w *watchErrors) handle(_ context.Context, r *toolscache.Reflector, err error) {
	// A watch that ends, or whose resourceVersion has become too old, is the
	// normal course of things.
	if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	kind := r.TypeDescription()
	w.report(kind[strings.LastIndexByte(kind, '.')+1:], err)
}

// report logs the first of a row of equal errors; all kinds fail together, so
// they share the row.
func (w *watchErrors) report(kind string, err error) {
	w.metrics.watchErrors.WithLabelValues(kind).Inc()
	msg := err.Error()
	if answered(err) {
		msg = kind + msg // a missing right or kind is each kind's own
	} else {
		msg = "unreachable" // the text has the address of a connection in it
	}
	if w.said.allow(msg) {
		w.log.Error(err, "cannot watch; what was known last stays in force, and watching is tried again", "kind", kind)
	}
}

// kindOf returns the name of an object's type.
func kindOf(obj runtime.Object) string {
	return reflect.TypeOf(obj).Elem().Name()
}
