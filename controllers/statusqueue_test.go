package controllers

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

// crowdedAPI has every route that is asked for, none with a status, and takes as
// many writes a second as the client of statuses lets through.
type crowdedAPI struct {
	client.Reader
	client.SubResourceWriter
	writes chan string // the names
}

func (a *crowdedAPI) Get(_ context.Context, k client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	*out.(*v1alpha1.ProxyRoute) = *crowdedRoute(k.Name)
	return nil
}

func (a *crowdedAPI) Status() client.SubResourceWriter { return a }

func (a *crowdedAPI) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	time.Sleep(statusWorkers * time.Second / statusQPS)
	a.writes <- o.GetName()
	return nil
}

func crowdedRoute(name string) *v1alpha1.ProxyRoute {
	o := testRoute()
	o.Name, o.UID = name, types.UID(name)
	return o
}

// A verdict waited behind the statuses of all routes whose endpoints came and went:
// with a thousand of them, for twenty seconds.
func TestAVerdictDoesNotWaitBehindTheHealthOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		const crowd = 1000
		api := &crowdedAPI{writes: make(chan string, 3*crowd)}
		w := newStatusWriter(api, api, logr.Discard(), m, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.run(ctx) }()
		defer func() { stop(); <-done }()

		verdicts := func(edited string) verdictSet {
			set := make(verdictSet, crowd)
			for i := range crowd {
				o := crowdedRoute(fmt.Sprint("route-", i))
				message := "as it was"
				if o.Name == edited {
					message = "edited"
				}
				set[keyOf(o)] = verdict{version: version{o.UID, o.Generation}, conditions: []translate.Condition{accepted(message)}}
			}
			return set
		}
		w.publish(verdicts(""))
		w.lead(t.Context())
		for range crowd {
			<-api.writes
		}
		for key := range verdicts("") { // the status that is read never has what was written
			if key.Name != "route-7" {
				w.nudgeHealth(key)
			}
		}
		time.Sleep(time.Second)
		began := time.Now()
		w.publish(verdicts("route-7"))
		for <-api.writes != "route-7" {
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the verdict was written after %s", took)
		}
	})
}
