package controllers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

var routesResource = schema.GroupResource{Group: v1alpha1.GroupName, Resource: "proxyroutes"}

// fakeAPI is a cache with one route in it and the API server behind it. What is
// written to the server gets into the cache only by sync.
type fakeAPI struct {
	client.Reader
	client.SubResourceWriter

	mu      sync.Mutex
	cached  *v1alpha1.ProxyRoute
	stored  *v1alpha1.ProxyRoute
	fail    error // of the next writes
	patches []time.Duration
	start   time.Time
	rival   func(*v1alpha1.ProxyRoute) // another writer, which answers each write at once
	event   func()                     // tells the writer of what the rival did
}

func (f *fakeAPI) Get(_ context.Context, k client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cached == nil || k != client.ObjectKeyFromObject(f.cached) {
		return apierrors.NewNotFound(routesResource, k.Name)
	}
	*out.(*v1alpha1.ProxyRoute) = *f.cached
	return nil
}

func (f *fakeAPI) Status() client.SubResourceWriter { return f }

func (f *fakeAPI) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	if err := f.patch(o); err != nil || f.rival == nil {
		return err
	}
	f.edit(f.rival)
	f.sync()
	f.event()
	return nil
}

func (f *fakeAPI) patch(o client.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patches = append(f.patches, time.Since(f.start))
	if f.fail != nil {
		return f.fail
	}
	if f.stored == nil {
		return apierrors.NewNotFound(routesResource, o.GetName())
	}
	if o.GetResourceVersion() != f.stored.ResourceVersion {
		return apierrors.NewConflict(routesResource, o.GetName(), errors.New("the object has been modified"))
	}
	f.stored = o.DeepCopyObject().(*v1alpha1.ProxyRoute)
	f.stored.ResourceVersion += "0"
	return nil
}

// sync brings the cache up to date.
func (f *fakeAPI) sync() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cached = f.stored
}

func (f *fakeAPI) edit(edit func(*v1alpha1.ProxyRoute)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored = f.stored.DeepCopy()
	edit(f.stored)
	f.stored.ResourceVersion += "1"
}

func (f *fakeAPI) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakeAPI) writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.patches)
}

func (f *fakeAPI) conditions() []metav1.Condition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stored.Status.Conditions
}

// verdictOn says Accepted, with a message, of the test route.
func verdictOn(message string) verdictSet {
	o := testRoute()
	return verdictSet{keyOf(o): {version: version{o.UID, o.Generation}, conditions: []translate.Condition{accepted(message)}}}
}

// withWriter runs a test with a running status writer in a bubble.
func withWriter(t *testing.T, test func(t *testing.T, w *statusWriter, api *fakeAPI)) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		api := &fakeAPI{cached: testRoute(), stored: testRoute(), start: time.Now()}
		w := newStatusWriter(api, api, logr.Discard(), m, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.run(ctx) }()
		defer func() { stop(); <-done }()
		test(t, w, api)
	})
}

func TestOnlyTheLeaderWritesAndANewLeaderWritesAllDifferences(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		w.publish(verdictOn("first"))
		w.nudge(keyOf(testRoute()))
		synctest.Wait()
		if n := api.writes(); n != 0 {
			t.Fatalf("%d writes without the Lease", n)
		}
		term, lose := context.WithCancel(t.Context())
		w.lead(term)
		synctest.Wait()
		if n := api.writes(); n != 1 || api.conditions()[0].Message != "first" {
			t.Fatalf("%d writes by the new leader, conditions %v; want one write", n, api.conditions())
		}
		lose()
		w.follow()
		w.publish(verdictOn("second"))
		synctest.Wait()
		if n := api.writes(); n != 1 {
			t.Fatal("a write after the Lease was lost")
		}
		w.lead(term) // called late, after its term has ended
		synctest.Wait()
		if n := api.writes(); n != 1 {
			t.Fatal("a write in a term that has ended")
		}
		api.sync()
		w.lead(t.Context())
		synctest.Wait()
		if n := api.writes(); n != 2 || api.conditions()[0].Message != "second" {
			t.Fatalf("%d writes, conditions %v; want the second verdict written", n, api.conditions())
		}
		if n := testutil.ToFloat64(w.metrics.statusLeader); n != 1 {
			t.Errorf("leader gauge %v", n)
		}
	})
}

func TestNothingIsWrittenWhenNothingDiffers(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		w.lead(t.Context())
		w.publish(verdictOn("a"))
		synctest.Wait()
		api.sync()
		for range 3 {
			w.publish(verdictOn("a"))
			w.nudge(keyOf(testRoute()))
			synctest.Wait()
		}
		w.lead(t.Context())
		synctest.Wait()
		if n := api.writes(); n != 1 {
			t.Fatalf("%d writes, want 1", n)
		}
	})
}

func TestAVerdictThatChangesIsWrittenAndOneThatDoesNotIsNot(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		w.lead(t.Context())
		for i, message := range []string{"a", "b", "b", "c"} {
			w.publish(verdictOn(message))
			synctest.Wait()
			api.sync()
			if c := api.conditions(); len(c) != 1 || c[0].Message != message {
				t.Fatalf("verdict %d is not written: %v", i, c)
			}
		}
		if n := api.writes(); n != 3 {
			t.Errorf("%d writes of 3 different verdicts", n)
		}
	})
}

func TestAVerdictOnAnotherVersionOfTheObjectIsNotWritten(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.ProxyRoute){
		"edited":    func(o *v1alpha1.ProxyRoute) { o.Generation++ },
		"made anew": func(o *v1alpha1.ProxyRoute) { o.UID = "9" },
	} {
		t.Run(name, func(t *testing.T) {
			withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
				api.edit(edit)
				api.sync()
				w.lead(t.Context())
				w.publish(verdictOn("old"))
				synctest.Wait()
				if n := api.writes(); n != 0 {
					t.Fatalf("%d writes", n)
				}
			})
		})
	}
}

func TestAWriteThatLostARaceIsDroppedAndMadeGoodByTheEvent(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		// A label is changed; the cache has not heard of it. The build that
		// follows from a label is none, so nothing but the event would write.
		api.edit(func(o *v1alpha1.ProxyRoute) { o.Labels = map[string]string{"a": "b"} })
		w.lead(t.Context())
		w.publish(verdictOn("a"))
		_ = wait(t.Context(), time.Hour)
		if n := api.writes(); n != 1 || len(api.conditions()) != 0 {
			t.Fatalf("%d writes, conditions %v; want one refused write and no retry", n, api.conditions())
		}
		if n := testutil.ToFloat64(w.metrics.statusWrites.WithLabelValues(writeDropped)); n != 1 {
			t.Errorf("%v conflicts counted, want 1", n)
		}
		api.sync()
		w.nudge(keyOf(testRoute()))
		synctest.Wait()
		if len(api.conditions()) != 1 {
			t.Fatal("the event did not make it good")
		}
	})
}

func TestAWriteThatFailsIsTriedAgainWithBackoffAndOnlyTheLatestVerdictCounts(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		api.failWith(errors.New("connection refused"))
		w.lead(t.Context())
		for _, message := range []string{"a", "b", "c"} {
			w.publish(verdictOn(message))
		}
		_ = wait(t.Context(), time.Minute)
		if n := api.writes(); n < 6 || n > 9 {
			t.Fatalf("%d tries in a minute at %v, want some 7 or 8 with doubling delays", n, api.patches)
		}
		api.failWith(nil)
		_ = wait(t.Context(), time.Minute)
		if c := api.conditions(); len(c) != 1 || c[0].Message != "c" {
			t.Fatalf("conditions %v, want the latest verdict", c)
		}
	})
}

func TestAnObjectThatIsGoneNeedsNoStatus(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		api.mu.Lock()
		api.stored = nil // the cache has not heard of it
		api.mu.Unlock()
		w.lead(t.Context())
		w.publish(verdictOn("a"))
		_ = wait(t.Context(), time.Minute)
		api.sync()
		w.nudge(keyOf(testRoute()))
		w.publish(verdictOn("b"))
		_ = wait(t.Context(), time.Minute)
		if n := api.writes(); n != 1 {
			t.Fatalf("%d writes, want the one that found out", n)
		}
		if n := testutil.ToFloat64(w.metrics.statusWrites.WithLabelValues(writeFailed)); n != 0 {
			t.Errorf("%v failures counted", n)
		}
	})
}
