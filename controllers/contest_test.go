package controllers

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// Two installations that serve one route wrote its status some 45 times a second,
// each undoing what the other said.
func TestAStatusThatSomebodyElseKeepsUndoingIsWrittenEverMoreSeldom(t *testing.T) {
	withWriter(t, func(t *testing.T, w *statusWriter, api *fakeAPI) {
		key := keyOf(testRoute())
		api.rival = func(o *v1alpha1.ProxyRoute) { o.Status.Conditions[0].Message = "theirs" }
		api.event = func() { w.nudge(key) }
		w.lead(t.Context())
		w.publish(verdictOn("ours"))
		_ = wait(t.Context(), 20*time.Minute)
		var want []time.Duration
		for at, pause := time.Duration(0), minContest; at <= 20*time.Minute; at, pause = at+pause, min(2*pause, maxContest) {
			want = append(want, at)
		}
		if !slices.Equal(api.patches, want) {
			t.Fatalf("%d writes at %v, want them at %v", api.writes(), api.patches[:min(len(api.patches), 30)], want)
		}

		api.rival = nil
		w.publish(verdictOn("news"))
		synctest.Wait()
		if c := api.conditions(); c[0].Message != "news" {
			t.Fatalf("a verdict that changed waits: %v", c)
		}
		api.sync()
		_ = wait(t.Context(), time.Hour)
		api.edit(func(o *v1alpha1.ProxyRoute) { o.Status.Conditions[0].Message = "a slip" })
		api.sync()
		w.nudge(key)
		synctest.Wait()
		if c := api.conditions(); c[0].Message != "news" {
			t.Fatalf("a status that was undone once is not mended at once: %v", c)
		}
	})
}
