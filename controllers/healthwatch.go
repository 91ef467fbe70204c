package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Reasons of the Events on Services.
const (
	eventEjected   = "Ejected"   // Warning: endpoints have failed requests
	eventUnhealthy = "Unhealthy" // Warning: endpoints fail their active checks
	eventPanic     = "Panic"     // Warning: health is not looked at any more
	eventRecovered = "Recovered" // Normal: endpoints take requests again
)

const (
	// healthHoldOff is the time between news of endpoints and a look at them, in
	// which other news join.
	healthHoldOff = time.Second
	// maxNote bounds the text of an Event, in bytes; the API's limit is 1024.
	maxNote = 1000
)

// healthWatch has the status of a route looked at when the health of its
// backends changes, and tells of it in Events on their Services, both only while
// this replica writes statuses. Its fields belong to the goroutine of run.
type healthWatch struct {
	writer      *statusWriter
	health      Health
	transitions *Transitions // nil: only plans are news
	reader      client.Reader
	recorder    events.EventRecorder
	log         logr.Logger

	seen     map[objectKey]routeHealth
	panicked map[plan.PoolKey]bool
}

// run looks, a hold-off after each news, until ctx ends.
func (h *healthWatch) run(ctx context.Context) error {
	var news <-chan struct{}
	if h.transitions != nil {
		news = h.transitions.news
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-h.writer.news:
		}
		_ = wait(ctx, healthHoldOff)
		if ctx.Err() == nil {
			h.look(ctx)
		}
	}
}

// look compares the health of all routes with the look before.
func (h *healthWatch) look(ctx context.Context) {
	var told []plan.Transition
	if h.transitions != nil {
		told = h.transitions.take()
	}
	verdicts, leading := h.writer.latest()
	if !leading {
		h.seen, h.panicked = nil, nil
		return
	}
	before := h.seen
	h.seen = make(map[objectKey]routeHealth, len(before))
	for key, v := range verdicts {
		if v.route == nil {
			continue
		}
		now := judgeHealth(v.route, h.health)
		h.seen[key] = now
		if old, ok := before[key]; !ok || !old.equal(now) {
			h.writer.nudgeHealth(key)
		}
	}
	notes := make(notes)
	for _, t := range told {
		notes.transition(t)
	}
	h.lookForPanic(verdicts, notes)
	for _, k := range notes.sorted() {
		h.tell(ctx, k, notes[k])
	}
}

// lookForPanic notes the pools that are in panic and were not at the last look.
func (h *healthWatch) lookForPanic(verdicts verdictSet, notes notes) {
	before := h.panicked
	h.panicked = make(map[plan.PoolKey]bool)
	for _, v := range verdicts {
		if v.route == nil {
			continue
		}
		for i := range v.route.Rules {
			for _, l := range v.route.Rules[i].Legs {
				if l.Invalid != "" || h.panicked[l.Pool] {
					continue
				}
				if health, ok := h.health.PoolHealth(l.Pool); !ok || !health.Panic {
					continue
				}
				h.panicked[l.Pool] = true
				if !before[l.Pool] {
					notes.add(l.Pool, eventPanic, fmt.Sprintf("port %d", l.Pool.Port))
				}
			}
		}
	}
}

// tell writes one Event. Repeated ones of a Service and reason become a series,
// which client-go writes every few minutes at most.
func (h *healthWatch) tell(ctx context.Context, k noteKey, items []string) {
	var service corev1.Service
	if err := h.reader.Get(ctx, k.service, &service); err != nil {
		h.log.V(1).Info("no event on a Service", "service", k.service.String(), "reason", k.reason, "err", err.Error())
		return
	}
	kind, action := corev1.EventTypeWarning, "Eject"
	note := "endpoints failed requests, so they get none for a time; look at their logs and load: "
	switch k.reason {
	case eventUnhealthy:
		action, note = "Check", "endpoints fail their health checks, so they get no requests; look at what the check asks for: "
	case eventPanic:
		action, note = "Balance", "too few endpoints are healthy, so requests go to all, also to broken ones; repair endpoints or add more: "
	case eventRecovered:
		kind, action, note = corev1.EventTypeNormal, "Readmit", "endpoints take requests again: "
	}
	note += listed(items)
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "") + " ..."
	}
	h.recorder.Eventf(&service, nil, kind, k.reason, action, "%s", note)
}

// noteKey is what one Event is about.
type noteKey struct {
	service types.NamespacedName
	reason  string
}

// notes are the Events of one look: what they say of each endpoint or port.
type notes map[noteKey][]string

func (n notes) add(pool plan.PoolKey, reason, item string) {
	k := noteKey{types.NamespacedName{Namespace: pool.Namespace, Name: pool.Service}, reason}
	// The same endpoint may be in several pools of the Service.
	if !slices.Contains(n[k], item) {
		n[k] = append(n[k], item)
	}
}

// transition notes what is worth an Event: not that an endpoint is on trial, and
// not that a new one serves.
func (n notes) transition(t plan.Transition) {
	item := t.Endpoint.String()
	if t.Why != "" {
		item += " (" + t.Why + ")"
	}
	switch {
	case t.To == "ejected":
		n.add(t.Pool, eventEjected, item)
	case t.To == "unhealthy":
		n.add(t.Pool, eventUnhealthy, item)
	case t.To == "serving" && t.From != "":
		n.add(t.Pool, eventRecovered, item)
	}
}

func (n notes) sorted() []noteKey {
	keys := make([]noteKey, 0, len(n))
	for k := range n {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b noteKey) int {
		return strings.Compare(a.service.String()+" "+a.reason, b.service.String()+" "+b.reason)
	})
	return keys
}
