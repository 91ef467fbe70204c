package controllers

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

const (
	// Between the writes of a status that somebody else keeps undoing: doubling
	// from the first to the second.
	minContest = time.Second
	maxContest = 5 * time.Minute

	// A status that stood for peace is not contested any more. The other one may
	// well be one of us, and come back after maxContest.
	peace = 2 * maxContest
)

// claim is what a status should say.
type claim struct {
	verdict  // without the health of backends
	replicas *v1alpha1.ReplicaCounts
	health   routeHealth
}

// equal compares all but the health of backends, which changes by itself.
func (c claim) equal(o claim) bool {
	return c.verdict.equal(o.verdict) && equality.Semantic.DeepEqual(c.replicas, o.replicas)
}

// stand is the last write of a status and how it has fared.
//
//	         somebody undoes it           it is time             again
//	written -------------------> waiting ------------> written ---------> ...
//	   ^                            |                     |
//	   +----------------------------+---------------------+
//	     our own claim changes: at once, and all is new
//
// The time is at + pause, which doubles with each write that was undone; a status
// that stood for long begins anew.
type stand struct {
	claim  claim
	at     time.Time
	over   string        // the resourceVersion that it was written over
	pause  time.Duration // from at to the next write, if this one is undone
	undone int           // writes in a row, before this one, that were undone
}

// wasUndone says whether a difference between the status of a version of an object
// and c, which may be in the health of backends alone, was made by somebody else:
// we have written the same before.
func (s *stand) wasUndone(c claim, resourceVersion string, healthAlone bool) bool {
	switch {
	case s == nil || resourceVersion == s.over: // the cache does not have our own write yet
		return false
	case healthAlone && !s.claim.health.equal(c.health):
		return false
	default:
		return s.claim.equal(c)
	}
}

// due returns when a difference may be written.
func (s *stand) due(undone, healthAlone bool) time.Time {
	switch {
	case s == nil:
		return time.Time{}
	case undone && healthAlone:
		return s.at.Add(max(s.pause, healthPause))
	case undone:
		return s.at.Add(s.pause)
	case healthAlone:
		return s.at.Add(healthPause)
	default:
		return time.Time{}
	}
}

// next returns the stand after a write.
func (s *stand) next(c claim, over string, undone bool, now time.Time) *stand {
	n := &stand{claim: c, at: now, over: over, pause: minContest}
	if undone && now.Sub(s.at) < peace {
		n.pause, n.undone = min(2*s.pause, maxContest), s.undone+1
	}
	return n
}

// rivalry logs that somebody keeps undoing a status, once for each object as long
// as that lasts, and not more often than a throttle lets it for each somebody.
func (w *statusWriter) rivalry(ctx context.Context, key objectKey, fields []string) {
	who := w.lastWriter(ctx, key)
	if w.rivals.allow(who) {
		w.log.Info("somebody else keeps undoing the status of an object, which is written ever more seldom now; "+
			"another installation that serves it too has to be told its classes or namespaces",
			"object", key.String(), "manager", who, "fields", fields)
	}
}

// lastWriter returns the field manager that wrote the status of an object last,
// other than this installation; "unknown" when there is none.
func (w *statusWriter) lastWriter(ctx context.Context, key objectKey) string {
	o := newObject(key.kind)
	if w.live == nil || w.live.Get(ctx, key.NamespacedName, o) != nil {
		return "unknown"
	}
	last := metav1.ManagedFieldsEntry{Manager: "unknown"}
	for _, e := range o.GetManagedFields() {
		if e.Subresource == "status" && e.Manager != w.owner && e.Time != nil && (last.Time == nil || last.Time.Before(e.Time)) {
			last = e
		}
	}
	return last.Manager
}

// differences names what two versions of the status of an object do not share.
func differences(a, b client.Object) (fields []string) {
	one, other := *conditionsOf(a), *conditionsOf(b)
	for _, t := range ourConditions {
		if !sameOf(t, one, other) {
			fields = append(fields, t)
		}
	}
	x, ok := a.(*v1alpha1.ProxyRoute)
	y, both := b.(*v1alpha1.ProxyRoute)
	if !ok || !both {
		return fields
	}
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"observedGeneration", x.Status.ObservedGeneration, y.Status.ObservedGeneration},
		{"hostnames", x.Status.Hostnames, y.Status.Hostnames},
		{"replicas", x.Status.Replicas, y.Status.Replicas},
		{"rules", x.Status.Rules, y.Status.Rules},
	} {
		if !equality.Semantic.DeepEqual(f.a, f.b) {
			fields = append(fields, f.name)
		}
	}
	return fields
}
