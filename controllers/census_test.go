package controllers

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func testReplicas(n int) []replica {
	all := make([]replica, n)
	for i := range all {
		name := string(rune('a' + i))
		all[i] = replica{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), pod: "ferrum-" + name, uid: types.UID(name)}
	}
	return all
}

// told lets a replica answer the question about the test route.
func (c *census) said(r replica, asked, served int64, err error) {
	c.hear(question{to: r, uids: []string{"1"}, generations: []int64{asked}}, []int64{served}, err, time.Now())
}

// withProgrammed returns the test route, of which Programmed has a status for its
// generation or one before.
func withProgrammed(status metav1.ConditionStatus, generation int64) *v1alpha1.ProxyRoute {
	o := testRoute()
	o.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgrammed, Status: status, ObservedGeneration: generation, Message: "as before"}}
	o.Status.Replicas = &v1alpha1.ReplicaCounts{Programmed: 9, Total: 9}
	return o
}

func TestARouteIsProgrammedWhenEveryReadyReplicaHasSaidThatItServesIt(t *testing.T) {
	const hold, yes, no = "hold", "True", "False"
	dead := errors.New("connection refused")
	all := testReplicas(3)
	a, b, c := all[0], all[1], all[2]
	fresh, before, was := withProgrammed(metav1.ConditionFalse, 3), withProgrammed(metav1.ConditionTrue, 2), withProgrammed(metav1.ConditionTrue, 3)
	all3 := func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 3, nil); x.said(c, 3, 3, nil) }
	for name, tc := range map[string]struct {
		of                *v1alpha1.ProxyRoute
		says              func(*census)
		want              string
		message           []string // that it has
		programmed, total int32
	}{
		"all serve it":             {fresh, all3, yes, []string{"every ready replica"}, 3, 3},
		"one serves a newer one":   {fresh, func(x *census) { all3(x); x.said(b, 3, 4, nil) }, yes, nil, 3, 3},
		"nobody was asked":         {fresh, func(*census) {}, hold, nil, 0, 3},
		"one was not asked":        {fresh, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 3, nil) }, hold, nil, 2, 3},
		"one was asked before":     {fresh, func(x *census) { all3(x); x.said(c, 2, 2, nil) }, hold, nil, 2, 3},
		"one is behind":            {fresh, func(x *census) { all3(x); x.said(b, 3, 2, nil) }, no, []string{"behind: ferrum-b (10.0.0.2) serves generation 2"}, 2, 3},
		"one has nothing of it":    {fresh, func(x *census) { all3(x); x.said(b, 3, 0, nil) }, no, []string{"ferrum-b (10.0.0.2) does not serve the route"}, 2, 3},
		"one does not answer":      {fresh, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 3, nil); x.said(c, 3, 0, dead) }, no, []string{"no answer from ferrum-c (10.0.0.3)"}, 2, 3},
		"one each":                 {fresh, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 1, nil); x.said(c, 3, 0, dead) }, no, []string{"behind: ferrum-b (10.0.0.2) serves generation 1; no answer from ferrum-c"}, 1, 3},
		"silent after it had said": {fresh, func(x *census) { all3(x); x.said(c, 3, 0, dead) }, yes, nil, 3, 3},
		"one cannot say":           {fresh, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 3, nil); x.said(c, 3, 0, errMute) }, yes, []string{"older version"}, 2, 3},
		"none is ready":            {fresh, func(x *census) { x.meet(nil, true, time.Now()) }, no, []string{"no replica of the proxy is ready"}, 0, 0},
		"edited, one is not asked": {before, func(x *census) { x.said(a, 3, 3, nil) }, hold, nil, 1, 3},
		"edited, one does not answer": {before, func(x *census) {
			x.said(a, 3, 3, nil)
			x.said(b, 3, 3, nil)
			x.said(c, 2, 2, nil)
			x.said(c, 3, 0, dead)
		}, no, []string{"no answer"}, 2, 3},
		"was, one does not answer": {was, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 3, nil); x.said(c, 3, 0, dead) }, yes, nil, 2, 3},
		"was, none is ready":       {was, func(x *census) { x.meet(nil, true, time.Now()) }, yes, nil, 0, 0},
		"was, one serves less":     {was, func(x *census) { x.said(a, 3, 3, nil); x.said(b, 3, 2, nil); x.said(c, 3, 0, dead) }, no, []string{"behind: ferrum-b"}, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			x := &census{}
			x.meet(all, true, time.Now())
			tc.says(x)
			o := x.judge(version{"1", 3}, tc.of, time.Now().Add(settleTime))
			got := string(o.condition.Status)
			if o.hold {
				got = hold
			}
			if got != tc.want || o.counts == nil || o.counts.Programmed != tc.programmed || o.counts.Total != tc.total {
				t.Fatalf("%s, %+v, %q; want %s, %d of %d", got, o.counts, o.condition.Message, tc.want, tc.programmed, tc.total)
			}
			for _, m := range tc.message {
				if !strings.Contains(o.condition.Message, m) {
					t.Errorf("message %q, want %q in it", o.condition.Message, m)
				}
			}
		})
	}
}

func TestASilenceSpeaksForAReplicaOnlyUntilItIsDueToBeAskedAgain(t *testing.T) {
	r, now := testReplicas(1), time.Now()
	x := &census{}
	x.meet(r, true, now)
	q := question{to: r[0], uids: []string{"1"}, generations: []int64{2}}
	x.hear(q, nil, errors.New("connection refused"), now)
	for after, hold := range map[time.Duration]bool{0: false, minSilence - 1: false, minSilence: true, time.Hour: true} {
		o := x.judge(version{"1", 3}, withProgrammed(metav1.ConditionFalse, 2), now.Add(after))
		if o.hold != hold || !hold && o.condition.Message != "no answer from ferrum-a (10.0.0.1)" {
			t.Errorf("after %s: %+v", after, o)
		}
	}
}

func TestAloneAReplicaSpeaksForItself(t *testing.T) {
	for name, x := range map[string]*census{"nobody asked": nil, "no Service": {}} {
		o := x.judge(version{"1", 3}, testRoute(), time.Now())
		if o.hold || o.condition.Status != metav1.ConditionTrue || o.counts != nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestWhileReplicasComeAndGoWhatIsTrueIsNotWrittenAnew(t *testing.T) {
	was := withProgrammed(metav1.ConditionTrue, 3)
	x := &census{}
	start := time.Now()
	x.meet(testReplicas(2), true, start)
	x.said(testReplicas(2)[0], 3, 3, nil)
	x.said(testReplicas(2)[1], 3, 3, nil)
	o := x.judge(version{"1", 3}, was, start.Add(settleTime-1))
	if o.condition.Message != "as before" || o.counts == nil || *o.counts != *was.Status.Replicas {
		t.Errorf("before they have settled: %+v", o)
	}
	if o = x.judge(version{"1", 3}, was, start.Add(settleTime)); o.condition.Message == "as before" || o.counts.Total != 2 {
		t.Errorf("after they have settled: %+v", o)
	}
	// A status that has to be written anyway has the counts of now.
	if o = x.judge(version{"1", 3}, withProgrammed(metav1.ConditionFalse, 3), start); o.counts.Total != 2 {
		t.Errorf("at once: %+v", o)
	}
}

// uidsOf returns the number of routes that each replica is to be asked about.
func uidsOf(questions []question) map[string]int {
	m := make(map[string]int)
	for _, q := range questions {
		m[q.to.pod] = len(q.uids)
	}
	return m
}

func TestOnlyWhatIsNotKnownToBeServedIsAsked(t *testing.T) {
	all := testReplicas(2)
	x := &census{}
	x.meet(all, true, time.Now())
	wanted := map[types.UID]int64{"1": 3, "2": 1}
	qs := x.questions(wanted)
	if got := uidsOf(qs); got["ferrum-a"] != 2 || got["ferrum-b"] != 2 {
		t.Fatalf("at first: %v", got)
	}
	for _, q := range qs {
		x.hear(q, q.generations, nil, time.Now())
	}
	if qs = x.questions(wanted); len(qs) != 0 || x.behind(wanted) != 0 {
		t.Fatalf("all is served, and there are questions: %v", qs)
	}
	wanted["1"] = 4
	if got := uidsOf(x.questions(wanted)); got["ferrum-a"] != 1 || got["ferrum-b"] != 1 {
		t.Fatalf("after an edit: %v", got)
	}
	x.said(all[0], 4, 4, nil)
	x.said(all[1], 4, 3, nil)
	if got := uidsOf(x.questions(wanted)); got["ferrum-a"] != 0 || got["ferrum-b"] != 1 || x.behind(wanted) != 1 {
		t.Fatalf("with one behind: %v", got)
	}
	// A replica of an older version is asked once about each generation: it cannot
	// say, and may be another one by the next.
	x.said(all[1], 4, 0, errMute)
	if got := x.questions(wanted); len(got) != 0 || x.behind(wanted) != 0 {
		t.Fatalf("of one that cannot say: %v", got)
	}
	wanted["1"] = 5
	if got := uidsOf(x.questions(wanted)); got["ferrum-b"] != 1 {
		t.Fatalf("of one that could not say: %v", got)
	}
}

func TestOnlyAnAnswerThatSaysSomethingNewIsNews(t *testing.T) {
	r := testReplicas(1)[0]
	x := &census{}
	x.meet([]replica{r}, true, time.Now())
	dead := errors.New("connection refused")
	for i, step := range []struct {
		asked, served int64
		err           error
		news          bool
	}{
		{3, 2, nil, true}, {3, 2, nil, false}, {3, 0, dead, true}, {3, 0, dead, false}, {4, 0, dead, true}, {4, 0, errMute, true},
		{4, 2, nil, true}, {4, 3, nil, true}, {4, 3, nil, false},
	} {
		news := x.hear(question{to: r, uids: []string{"1"}, generations: []int64{step.asked}}, []int64{step.served}, step.err, time.Now())
		if (len(news) > 0) != step.news {
			t.Errorf("answer %d: news %v", i, news)
		}
	}
}

func TestAReplicaThatWasGoneIsAskedAnewAboutEverything(t *testing.T) {
	all := testReplicas(2)
	x := &census{}
	x.meet(all, true, time.Now())
	wanted := map[types.UID]int64{"1": 3, "2": 1}
	qs := x.questions(wanted)
	x.meet(all[:1], true, time.Now())
	for _, q := range qs { // that of the other comes too late
		x.hear(q, q.generations, nil, time.Now())
	}
	if qs = x.questions(wanted); len(qs) != 0 {
		t.Fatalf("questions to %v", uidsOf(qs))
	}
	x.meet(all, true, time.Now())
	if got := uidsOf(x.questions(wanted)); got["ferrum-a"] != 0 || got["ferrum-b"] != 2 {
		t.Fatalf("after it came back: %v", got)
	}
	anew := []replica{all[0], {addr: all[1].addr, pod: "ferrum-c", uid: "c"}}
	x.meet(anew, true, time.Now())
	if got := uidsOf(x.questions(wanted)); got["ferrum-c"] != 2 {
		t.Fatalf("of another Pod with the same address: %v", got)
	}
}

func TestWhatIsKnownOfRoutesThatAreGoneIsForgotten(t *testing.T) {
	x := &census{}
	x.meet(testReplicas(1), true, time.Now())
	for i := range 100 {
		wanted := map[types.UID]int64{types.UID(rune('a' + i)): 1}
		for _, q := range x.questions(wanted) {
			x.hear(q, q.generations, nil, time.Now())
		}
	}
	if n := len(x.members[testReplicas(1)[0]].told); n > 2 {
		t.Errorf("%d routes are remembered of 1", n)
	}
}

func TestNoQuestionIsLongerThanAnAdminPortTakesAndTheRestComesNext(t *testing.T) {
	x := &census{}
	x.meet(testReplicas(1), true, time.Now())
	wanted := make(map[types.UID]int64)
	for i := range 25_000 {
		wanted[types.UID(string(rune(i+0x4e00)))] = 1
	}
	for round := range 3 {
		qs := x.questions(wanted)
		if len(qs) != 1 || len(qs[0].uids) != plan.MaxServedUIDs {
			t.Fatalf("round %d: %v", round, uidsOf(qs))
		}
		x.hear(qs[0], nil, errors.New("no answer"), time.Now())
	}
	for uid := range wanted {
		if x.find(version{uid, 1}, time.Now()).unasked {
			t.Fatal("a route was not asked about in as many rounds as suffice for all")
		}
	}
}
