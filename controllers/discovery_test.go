package controllers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
)

// servedKinds answers discovery with what it is set to.
type servedKinds struct {
	mu   sync.Mutex
	list []string // nil: the group version does not exist
	err  error
	asks int
}

func (s *servedKinds) set(err error, list ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.err = list, err
}

func (s *servedKinds) ServerResourcesForGroupVersionWithContext(_ context.Context, gv string) (*metav1.APIResourceList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	if s.err != nil {
		return nil, s.err
	}
	if s.list == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, gv)
	}
	out := &metav1.APIResourceList{GroupVersion: gv}
	for _, name := range s.list {
		out.APIResources = append(out.APIResources, metav1.APIResource{Name: name})
	}
	return out, nil
}

// logLines collects what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, args)
	}, funcr.Options{})
}

func (l *logLines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func TestItWaitsForTheAPIServerAndForTheCRDsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		served := &servedKinds{err: errors.New("connection refused")}
		api := &apiDiscovery{api: served}
		done := make(chan bool, 1)
		go func() { done <- api.waitForKinds(t.Context(), log.logger()) }()

		_ = wait(t.Context(), 10*time.Second)
		if n := strings.Count(log.all(), "cannot ask the API server"); n != 1 {
			t.Errorf("an outage of 10 s is logged %d times, want once:\n%s", n, log.all())
		}
		served.set(nil)
		_ = wait(t.Context(), 10*time.Second)
		served.set(nil, "proxyroutes", "proxyroutes/status")
		_ = wait(t.Context(), 10*time.Second)
		all := log.all()
		for _, want := range []string{
			"kubectl apply -k config/crd", `"missing"="proxyroutes, backendpolicies, proxyclasses"`, `"missing"="backendpolicies, proxyclasses"`,
		} {
			if !strings.Contains(all, want) {
				t.Errorf("the log does not say %s:\n%s", want, all)
			}
		}
		select {
		case <-done:
			t.Fatal("it did not wait")
		default:
		}
		served.set(nil, ownResources...)
		_ = wait(t.Context(), 2*kindsPoll)
		synctest.Wait()
		select {
		case served := <-done:
			if !served {
				t.Fatal("it gave up")
			}
		default:
			t.Fatal("it does not see the CRDs within two polls")
		}
	})
}

func TestWaitingForTheCRDsEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		api := &apiDiscovery{api: &servedKinds{}}
		start := time.Now()
		if api.waitForKinds(ctx, logr.Discard()) || time.Since(start) != 5*time.Second {
			t.Errorf("it ended after %v, or with kinds that are not served", time.Since(start))
		}
	})
}

func TestReferenceGrantsComeAndGoWithTheirKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheme, err := newScheme()
		if err != nil {
			t.Fatal(err)
		}
		served := &servedKinds{}
		events := &trigger{holdOff: holdOff}
		o := Options{DiscoveryInterval: 30 * time.Second, grantsSync: 30 * time.Second, Log: logr.Discard()}
		informers := &informertest.FakeInformers{Scheme: scheme}
		g := newGrantSource(informers, &apiDiscovery{api: served}, o, events)
		q := queues["plain queue"]()
		defer q.ShutDown()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()

		// step says what the state must be after a time in which discovery
		// answers in one way, and whether that must have led to a build.
		step := func(what string, d time.Duration, on, build bool) {
			t.Helper()
			_ = wait(ctx, d)
			synctest.Wait()
			if got := g.on.Load() != nil; got != on || len(informers.InformersByGVK) > 1 {
				t.Errorf("%s: active %t, want %t; %d informers", what, got, on, len(informers.InformersByGVK))
			}
			if got := !events.take().IsZero(); got != build {
				t.Errorf("%s: a build %t, want %t", what, got, build)
			}
		}

		served.set(errors.New("connection refused"))
		if err := g.Start(ctx, q); err != nil {
			t.Fatal(err)
		}
		step("the API server is away", 10*time.Second, false, false)
		if g.isSynced() {
			t.Error("it counts as synced before the API server has answered")
		}
		served.set(nil)
		step("not installed", 2*grantsRetry, false, true)
		if err := g.WaitForSync(ctx); err != nil || !g.isSynced() {
			t.Errorf("an API server without ReferenceGrant blocks the first plan: %v", err)
		}
		served.set(nil, grantsResource)
		step("installed", 30*time.Second, true, true)
		step("nothing new", time.Hour, true, false)
		served.set(errors.New("connection refused"))
		step("the API server is away again", time.Hour, true, false)
		served.set(nil)
		step("not served once", 30*time.Second, true, false)
		served.set(nil, grantsResource)
		step("served again", time.Minute, true, false)
		served.set(nil)
		step("not served for long", 2*time.Minute, false, true)
		served.set(nil, grantsResource)
		step("installed again", time.Minute, true, true)
	})
}

// flakyLW fails until a time.
type flakyLW struct {
	until time.Time
	err   error
	calls []time.Time
}

func (f *flakyLW) try() error {
	f.calls = append(f.calls, time.Now())
	if time.Now().Before(f.until) {
		return f.err
	}
	return nil
}

func (f *flakyLW) listWatch() toolscache.ListerWatcher {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, f.try()
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return watch.NewEmptyWatch(), f.try()
		},
	}
}

func TestListsAndWatchesOutlastAnAPIServerThatIsAway(t *testing.T) {
	const outage = time.Hour
	calls := map[string]func(context.Context, toolscache.ListerWatcher) error{
		"list": func(ctx context.Context, lw toolscache.ListerWatcher) error {
			_, err := toolscache.ToListerWithContext(lw).ListWithContext(ctx, metav1.ListOptions{})
			return err
		},
		"watch": func(ctx context.Context, lw toolscache.ListerWatcher) error {
			_, err := toolscache.ToWatcherWithContext(lw).WatchWithContext(ctx, metav1.ListOptions{})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name+" returns soon after the API server is back", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				f := &flakyLW{until: start.Add(outage), err: errors.New("connection refused")}
				reports := 0
				if err := call(t.Context(), patient(f.listWatch(), "ProxyRoute", func(string, error) { reports++ })); err != nil {
					t.Fatal(err)
				}
				if late := time.Since(start) - outage; late > maxPatience {
					t.Errorf("back %v after the API server, want at most %v", late, maxPatience)
				}
				if reports != len(f.calls)-1 {
					t.Errorf("%d failures, %d reports", len(f.calls)-1, reports)
				}
				if most := int(outage/(maxPatience/2)) + 10; reports > most {
					t.Errorf("%d tries in %v, want at most %d", reports, outage, most)
				}
			})
		})
		t.Run(name+" passes answers of the API server on", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &flakyLW{until: time.Now().Add(outage), err: apierrors.NewForbidden(routesResource, "", errors.New("no right"))}
				if err := call(t.Context(), patient(f.listWatch(), "ProxyRoute", func(string, error) {})); !apierrors.IsForbidden(err) || len(f.calls) != 1 {
					t.Errorf("error %v after %d calls", err, len(f.calls))
				}
			})
		})
		t.Run(name+" ends with the context", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				f := &flakyLW{until: time.Now().Add(outage), err: errors.New("connection refused")}
				start := time.Now()
				if err := call(ctx, patient(f.listWatch(), "ProxyRoute", func(string, error) {})); err == nil || time.Since(start) != time.Minute {
					t.Errorf("error %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

func TestARepeatedMessageIsLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var th throttle
		if th.reset() {
			t.Error("there was a message before the first")
		}
		if !th.allow("a") || th.allow("a") || !th.allow("b") {
			t.Error("a new message must pass, the same one must not")
		}
		_ = wait(t.Context(), logAgain)
		if !th.allow("b") || th.allow("b") {
			t.Errorf("after %v the message must pass once more", logAgain)
		}
		if !th.reset() || !th.allow("b") {
			t.Error("after a reset the message is new")
		}
	})
}
