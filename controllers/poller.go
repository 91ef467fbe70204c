package controllers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// pollInterval is between the begins of two rounds.
	pollInterval = time.Second
	// pollTimeout bounds the wait for one replica.
	pollTimeout = time.Second
	// pollHoldOff is between news and the round that they lead to, so that the
	// other replicas, which have the same news, have most likely applied them.
	pollHoldOff = 50 * time.Millisecond
	// pollWorkers is how many replicas are asked at the same time.
	pollWorkers = 16
	// refreshPause is between two statuses that are looked at only because the
	// number of replicas has changed; it leaves half of statusQPS to the others.
	refreshPause = 40 * time.Millisecond
)

// poller asks the ready replicas what they serve while this replica writes
// statuses, and has the statuses looked at that depend on the answers. It asks in
// rounds, which follow news (verdicts, replicas, the Lease) or a round that did not
// find everything served, and only about what is not known to be served: without
// news, and with all served, there is none. A replica that does not answer is asked
// ever more rarely.
//
// Its fields belong to the goroutine of run.
type poller struct {
	writer  *statusWriter
	census  *census
	peers   Peers
	metrics *metrics
	log     logr.Logger
	said    throttle
	old     string // the replicas of an older version that the log has named last

	woke   time.Time               // when the first news since the round before came; zero: none
	met    time.Time               // census.settles at the round before
	open   map[types.UID]struct{}  // routes about which the round before left questions
	latest map[types.UID]int64     // what was wanted in the round before; nil: it was not leading
	waits  map[types.UID]time.Time // since when new ones of these are not served by all
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context) error {
	round, settled := stopped(), stopped()
	defer round.Stop()
	defer settled.Stop()
	var last, next, settles time.Time // rounds; next is zero when none is waited for
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.writer.asks:
			if at := p.census.settles(); !at.Equal(settles) {
				settles = at
				settled.Reset(time.Until(at))
			}
			if p.woke.IsZero() {
				p.woke = time.Now()
			}
			soon := later(time.Now().Add(pollHoldOff), last.Add(pollInterval))
			if next.IsZero() || soon.Before(next) {
				next = soon
				round.Reset(time.Until(next))
			}
		case <-round.C:
			last = time.Now()
			if next = p.round(ctx, last); !next.IsZero() {
				next = later(next, last.Add(pollInterval))
				round.Reset(time.Until(next))
			}
		case <-settled.C:
			p.writer.refresh(refreshPause)
		}
	}
}

// stopped returns a timer that does not fire before it is reset.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// round asks every replica about which there is something to ask. It returns
// when there has to be something to ask again, zero for never.
func (p *poller) round(ctx context.Context, now time.Time) (next time.Time) {
	verdicts, leading := p.writer.latest()
	if !leading {
		p.open, p.latest, p.waits, p.woke = nil, nil, nil, time.Time{}
		p.census.forget()
		p.metrics.replicasBehind.Set(0)
		return next
	}
	routes := make(map[types.UID]objectKey)
	wanted := make(map[types.UID]int64)
	for key, v := range verdicts {
		if v.inForce {
			routes[v.uid], wanted[v.uid] = key, v.generation
		}
	}
	look := make(map[types.UID]struct{})
	if at := p.census.settles(); !at.Equal(p.met) {
		p.met = at
		maps.Copy(look, p.open) // whoever held them up may be gone
	}
	questions := p.census.questions(wanted)
	p.note(about(questions), wanted)
	p.ask(ctx, due(questions, now), look)
	for uid := range look {
		if key, ok := routes[uid]; ok {
			p.writer.nudge(key)
		}
	}
	p.metrics.replicasBehind.Set(float64(p.census.behind(wanted)))
	left := p.census.questions(wanted)
	p.open = about(left)
	if !p.census.settles().Equal(p.met) {
		maps.Copy(p.open, about(questions)) // somebody went while it was asked
	}
	p.measure(time.Now())
	return soonest(left, now)
}

// due returns the questions that are to be asked at a time.
func due(questions []question, now time.Time) []question {
	return slices.DeleteFunc(slices.Clone(questions), func(q question) bool { return q.due.After(now) })
}

// soonest returns when the first of the questions may be asked, not before now;
// zero if there is none.
func soonest(questions []question, now time.Time) (at time.Time) {
	for _, q := range questions {
		if t := later(q.due, now); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return at
}

// about returns the routes that questions are about.
func about(questions []question) map[types.UID]struct{} {
	uids := make(map[types.UID]struct{})
	for _, q := range questions {
		for _, uid := range q.uids {
			uids[types.UID(uid)] = struct{}{}
		}
	}
	return uids
}

// ask asks all, some at a time, and takes the answers down. It adds the routes of
// which something new is known to news.
func (p *poller) ask(ctx context.Context, questions []question, news map[types.UID]struct{}) {
	var (
		workers sync.WaitGroup
		mu      sync.Mutex // of news, mute and last
		mute    []string
		last    error // of one that does not answer
	)
	slots := make(chan struct{}, pollWorkers)
	for _, q := range questions {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, pollTimeout)
			defer cancel()
			served, err := p.peers.Served(ctx, q.to.addr, q.uids)
			mu.Lock()
			defer mu.Unlock()
			p.count(err)
			switch {
			case isMute(err):
				mute = append(mute, q.to.String())
			case err != nil:
				last = err
			}
			for _, uid := range p.census.hear(q, served, err, time.Now()) {
				news[uid] = struct{}{}
			}
		})
	}
	workers.Wait()
	if ctx.Err() == nil {
		slices.Sort(mute)
		p.tell(listed(mute), last)
	}
}

// tell logs who cannot say what it serves, and who does not answer; last is why one
// of them did not in this round.
func (p *poller) tell(mute string, last error) {
	if mute != "" && mute != p.old {
		p.old = mute
		p.log.Info("replicas of an older version cannot say what they serve; Programmed does not count them", "replicas", mute)
	}
	silent := listed(p.census.silent())
	switch {
	case silent == "":
		p.said.reset()
	case last != nil && p.said.allow(silent):
		p.log.Info("replicas do not say what they serve", "replicas", silent, "err", last.Error())
	}
}

// count counts an answer.
func (p *poller) count(err error) {
	result := pollAnswered
	switch {
	case isMute(err):
		result = pollUnsupported
	case err != nil:
		result = pollFailed
	}
	p.metrics.replicaPolls.WithLabelValues(result).Inc()
}

// note notes which of the routes that are asked about are new, or have a new
// version, since the round before. Of a replica that has only begun to write
// statuses none is: it does not know since when.
func (p *poller) note(asked map[types.UID]struct{}, wanted map[types.UID]int64) {
	if p.woke.IsZero() {
		p.woke = time.Now() // the news of what is wanted is about to come
	}
	if p.latest == nil {
		p.waits = make(map[types.UID]time.Time)
	} else {
		for uid := range asked {
			if p.latest[uid] != wanted[uid] {
				p.waits[uid] = p.woke
			}
		}
	}
	p.latest, p.woke = wanted, time.Time{}
}

// measure ends the waits for versions about which no question is open.
func (p *poller) measure(now time.Time) {
	for uid, since := range p.waits {
		if _, ok := p.open[uid]; ok {
			continue
		}
		delete(p.waits, uid)
		if _, ok := p.latest[uid]; ok {
			p.metrics.programmed.Observe(now.Sub(since).Seconds())
		}
	}
}
