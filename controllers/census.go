package controllers

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// settleTime is how long the replicas must have been the same before statuses are
// written that would only say how many there are: a rollout changes that twice for
// each Pod.
const settleTime = 30 * time.Second

// A replica that does not answer is asked again after minSilence, and after twice
// as long each time that it still does not, up to maxSilence.
const (
	minSilence = pollInterval
	maxSilence = 10 * time.Second
)

// census knows the ready replicas of the proxy and what they have said that they
// serve. It asks nobody; see poller. What it knows of a replica ends when that is
// no longer among the ready ones, so one that comes back is asked anew.
//
// A route, for one generation, is to one replica
//
//	          | said >= generation | said less    | no answer    | cannot say
//	unasked --+-> serves           -> behind      -> silent      -> not counted
//
// and can go from each of the last three to each of the others, with the next
// answer. From "serves" it goes only when the replica does. While a replica is not
// due to be asked, because it was silent, what is unasked is silent, too.
//
// The zero value knows no Service of the proxy: then nobody but this process
// counts. Safe for concurrent use, as is a nil one, which is like the zero value.
type census struct {
	mu      sync.Mutex
	known   bool      // the proxy has a Service of its own
	order   []replica // sorted; the keys of members
	members map[replica]*member
	changed time.Time // when a replica came or went
}

// member is what one replica has said.
type member struct {
	told   map[types.UID]told
	silent bool // it did not answer the last time
	mute   bool // it answers, but its version cannot say what it serves

	pause time.Duration // between its last silence and due; 0 unless it is silent
	due   time.Time     // when it is to be asked again; zero unless it is silent
}

// told is what a replica has said of a route.
type told struct {
	served int64 // the generation; 0 = none, or never heard
	asked  int64 // the generation that it was asked for last
}

// meet makes replicas the ready ones, known whether the proxy has a Service.
func (c *census) meet(replicas []replica, known bool, now time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known == c.known && slices.Equal(replicas, c.order) {
		return
	}
	c.known, c.order, c.changed = known, replicas, now
	members := make(map[replica]*member, len(replicas))
	for _, r := range replicas {
		if members[r] = c.members[r]; members[r] == nil {
			members[r] = &member{told: make(map[types.UID]told)}
		}
	}
	c.members = members
}

// settles returns when the replicas have been the same for settleTime.
func (c *census) settles() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed.Add(settleTime)
}

// question is what one replica is to be asked.
type question struct {
	to          replica
	uids        []string
	generations []int64   // wanted, of each
	due         time.Time // not to be asked before; zero: at once
}

// questions returns what is not known of the wanted generations of routes, and
// what was less than wanted, to be asked in one round, or later if it is not due.
// It returns none when all replicas serve what is wanted.
func (c *census) questions(wanted map[types.UID]int64) []question {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []question
	for _, r := range c.order {
		m := c.members[r]
		if len(m.told) > len(wanted) {
			for uid := range m.told {
				if _, ok := wanted[uid]; !ok {
					delete(m.told, uid)
				}
			}
		}
		q := question{to: r, due: m.due}
		// What was never asked about holds up a status, so it comes first.
		m.ask(&q, wanted, func(t told, generation int64) bool { return t.asked < generation })
		m.ask(&q, wanted, func(t told, generation int64) bool { return t.asked >= generation && !m.mute })
		if len(q.uids) > 0 {
			all = append(all, q)
		}
	}
	return all
}

// ask adds the routes to q that the replica does not serve as wanted, as far as
// that is known, and of which worth says so.
func (m *member) ask(q *question, wanted map[types.UID]int64, worth func(told, int64) bool) {
	for uid, generation := range wanted {
		if len(q.uids) == plan.MaxServedUIDs {
			return
		}
		if t := m.told[uid]; t.served < generation && worth(t, generation) {
			q.uids, q.generations = append(q.uids, string(uid)), append(q.generations, generation)
		}
	}
}

// hear takes the answer to q, at a time: what is served, or why there is no answer.
// It returns the routes of which something new is known.
func (c *census) hear(q question, served []int64, err error, now time.Time) (news []types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[q.to]
	if m == nil {
		return nil // it went while it was asked
	}
	mute := isMute(err)
	silent := err != nil && !mute
	turned := mute != m.mute || silent != m.silent
	m.mute, m.silent = mute, silent
	if silent {
		m.pause = min(max(2*m.pause, minSilence), maxSilence)
		m.due = now.Add(m.pause)
	} else {
		m.pause, m.due = 0, time.Time{}
	}
	for i, uid := range q.uids {
		uid := types.UID(uid)
		before := m.told[uid]
		t := told{served: before.served, asked: q.generations[i]}
		if err == nil {
			t.served = served[i]
		}
		m.told[uid] = t
		if turned || t != before {
			news = append(news, uid)
		}
	}
	return news
}

// behind counts the replicas that do not serve, as far as is known, all that is
// wanted, though they could say it.
func (c *census) behind(wanted map[types.UID]int64) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		for uid, generation := range wanted {
			if m.told[uid].served < generation && !m.mute {
				n++
				break
			}
		}
	}
	return n
}

// silent returns the replicas that did not answer the last time.
func (c *census) silent() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.order {
		if c.members[r].silent {
			names = append(names, r.String())
		}
	}
	return names
}

// opinion is what the replicas together make of a route that this one serves.
type opinion struct {
	condition translate.Condition     // Programmed
	counts    *v1alpha1.ReplicaCounts // nil: nobody but this replica counts
	hold      bool                    // some have not been asked yet: nothing is to be written now
}

// judge says whether every ready replica serves a version of a route that this
// one does; of is the route as it is in the API.
//
//	ready replicas                       | Programmed
//	the proxy has no Service             | True, for this replica alone
//	one was not asked yet                | wait for the next round
//	none                                 | as it was for this generation, else False  Pending
//	one serves an older generation       | False  Pending, names it
//	one does not answer                  | as it was for this generation, else False  Pending, names it
//	else                                 | True
//
// So what was True for a generation stays so while replicas restart, come or do
// not answer, whoever writes the status: a new replica is ready only once it has
// a table. While it stays True, the counts and the message follow once the
// replicas have settled.
func (c *census) judge(v version, of *v1alpha1.ProxyRoute, now time.Time) opinion {
	o := opinion{condition: translate.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProgrammed,
		Message: "the data plane serves this generation",
	}}
	if c == nil {
		return o
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return o
	}
	f := c.find(v, now)
	o.counts = &v1alpha1.ReplicaCounts{Programmed: count(f.programmed), Total: count(len(c.order))}
	was := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionProgrammed)
	stays := was != nil && was.Status == metav1.ConditionTrue && was.ObservedGeneration == v.generation
	words := f.words(len(c.order))
	switch {
	case f.unasked:
		o.hold = true
	case len(f.behind) == 0 && (words == "" || stays):
		o.condition.Message = "every ready replica serves this generation"
		if words != "" {
			o.condition.Message = cut("every ready replica has served this generation; now: " + words)
		}
		if f.mute {
			o.condition.Message += ", but for those of an older version, which cannot say so"
		}
		if stays && now.Sub(c.changed) < settleTime {
			o.condition.Message, o.counts = was.Message, of.Status.Replicas.DeepCopy()
		}
	default:
		o.condition.Status, o.condition.Reason, o.condition.Message = metav1.ConditionFalse, v1alpha1.ReasonPending, cut(words)
	}
	return o
}

// forget makes what was said in one term as a leader not count in the next: what a
// replica serves it may have lost meanwhile, and found again.
func (c *census) forget() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.members {
		c.members[r] = &member{told: make(map[types.UID]told)}
	}
}

// findings are what the replicas have said of one version of a route.
type findings struct {
	programmed     int
	behind, silent []string // in words
	unasked, mute  bool     // there is one
}

func (c *census) find(v version, now time.Time) (f findings) {
	for _, r := range c.order {
		m := c.members[r]
		t := m.told[v.uid]
		switch {
		case t.served >= v.generation:
			f.programmed++
		case t.asked < v.generation && !m.due.After(now):
			f.unasked = true
		case m.mute:
			f.mute = true
		case m.silent:
			f.silent = append(f.silent, r.String())
		case t.served == 0:
			f.behind = append(f.behind, r.String()+" does not serve the route")
		default:
			f.behind = append(f.behind, fmt.Sprintf("%s serves generation %d", r, t.served))
		}
	}
	return f
}

// words says what keeps the route from being served by all; "" = nothing.
func (f findings) words(replicas int) string {
	switch {
	case replicas == 0:
		return "no replica of the proxy is ready"
	case len(f.behind) > 0 && len(f.silent) > 0:
		return "behind: " + listed(f.behind) + "; no answer from " + listed(f.silent)
	case len(f.behind) > 0:
		return "behind: " + listed(f.behind)
	case len(f.silent) > 0:
		return "no answer from " + listed(f.silent)
	}
	return ""
}
