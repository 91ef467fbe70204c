package proxy

import (
	"bytes"
	"math/rand/v2"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/route"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/upstream"
)

// pick finds the endpoint for the request: that of its session, if it has one
// that still serves, else one of a leg that is drawn by weight. When the rule
// rebalances, a leg without an endpoint leaves its share to the others, in
// proportion to their weights.
func (ex *exchange) pick() Reason {
	r := ex.rule
	i := -1
	if r.session != nil {
		var reason Reason
		if i, reason = ex.resume(); ex.turn.Endpoint != nil || reason != ReasonOK {
			return reason
		}
		// One whose endpoint is full goes elsewhere this time and stays what it is.
		ex.greet = !ex.turn.Full
	}
	if i < 0 {
		i = r.draw(r.weights, 0)
	}
	var passed uint64 // a bit for each leg that has nothing
	for left := r.weights; ; i = r.draw(left, passed) {
		l := &r.legs[i]
		reason := ex.takeFrom(l)
		if reason != ReasonNoEndpoints && reason != ReasonBackendUnresolved || !r.rebalance {
			return reason
		}
		passed |= 1 << i
		if left -= l.weight; left == 0 {
			return reason
		}
	}
}

// takeFrom takes an endpoint of a leg.
func (ex *exchange) takeFrom(l *leg) Reason {
	ex.detail = l.invalid // not that of a leg before it
	if l.invalid != "" {
		return ReasonBackendUnresolved
	}
	ex.leg = l
	if reason := ex.enterPool(l); reason != ReasonOK {
		return reason
	}
	ex.turn = l.pool.Take(ex.ask(l))
	switch {
	case ex.turn.Endpoint != nil:
		return ReasonOK
	case ex.turn.Full:
		return ex.overflowed()
	}
	return ReasonNoEndpoints
}

// ask is what the pool of a leg is asked with.
func (ex *exchange) ask(l *leg) upstream.Ask {
	ask := upstream.Ask{Now: ex.now, Tried: &ex.tried}
	if l.hash != nil {
		ask.Key, ask.Keyed = ex.hashKey(l.hash)
	}
	return ask
}

// draw picks one of the legs that are not in passed by weight; left is the sum
// of their weights, which is not 0.
func (r *rule) draw(left, passed uint64) int {
	if len(r.legs) == 1 {
		return 0
	}
	n := rand.Uint64N(left)
	for i := range r.legs {
		if passed>>i&1 != 0 {
			continue
		}
		w := r.legs[i].weight
		if n < w {
			return i
		}
		n -= w
	}
	return len(r.legs) - 1 // never: n is below the sum
}

// hashKey is what ConsistentHash goes by for this request; ok is false when the
// request does not have it.
func (ex *exchange) hashKey(k *plan.HashKey) (key uint64, ok bool) {
	var value []byte
	switch k.Source {
	case plan.HashSourceIP:
		if a := ex.addr.Addr(); a.IsValid() {
			b := a.As16()
			return upstream.Hash(b[:]), true
		}
	case plan.HashHeader:
		value, ok = ex.req.Header(k.Name)
	case plan.HashCookie:
		value, ok = cookie(&ex.req, k.Name)
	case plan.HashQueryParam:
		value, ok = route.QueryValue(ex.req.Query, k.Name)
	}
	return upstream.Hash(value), ok
}

// cookie returns the value of the first cookie of that name (RFC 6265, 5.4; its
// quotes, if any, are part of it).
func cookie(req *http1.Request, name string) (value []byte, ok bool) {
	for i := range req.Fields {
		f := &req.Fields[i]
		if f.Kind != http1.Credential || f.Drop || !bytes.EqualFold(f.Name, cookieField) {
			continue
		}
		if value, ok = cookieIn(f.Value, name); ok {
			return value, true
		}
	}
	return nil, false
}

var (
	cookieField = []byte("cookie")
	semicolon   = []byte(";")
	equalsSign  = []byte("=")
)

// cookieIn looks for a cookie in the value of a Cookie field.
func cookieIn(field []byte, name string) (value []byte, ok bool) {
	for more := true; more; {
		var pair []byte
		pair, field, more = bytes.Cut(field, semicolon)
		n, v, found := bytes.Cut(pair, equalsSign)
		if found && string(bytes.Trim(n, " \t")) == name {
			return bytes.Trim(v, " \t"), true
		}
	}
	return nil, false
}

// answered tells the endpoint's record of the head of the response.
func (ex *exchange) answered() {
	var retryAfter time.Duration
	if ex.res.Status == 429 || ex.res.Status == 503 {
		retryAfter = ex.retryAfter()
	}
	ex.headed = true
	// A body that is long on its way is not the endpoint's slowness.
	latency := ex.header
	if ex.uploading {
		latency = 0
		if up := ex.uploadEnd.Load(); up != 0 {
			latency = ex.now.Sub(ex.start.Add(time.Duration(up)))
		}
	}
	ex.turn.Answered(ex.now, latency, ex.res.Status, retryAfter)
	ex.observe(latency)
}

// release ends the request's hold on its endpoint, and says whether that one is
// to blame for how it ended.
func (ex *exchange) release(reason Reason, end time.Time) {
	v := upstream.Inconclusive
	switch row := &reasons[reason]; {
	case reason == ReasonOK:
		v = upstream.Success
	case row.blames == blamesEndpoint, row.blames == blamesSilent && ex.silent(reason, end):
		v = upstream.Failure
	}
	if reason == ReasonResponseHeaderTimeout {
		ex.observe(end.Sub(ex.sentAt))
	}
	ex.turn.Release(end, v, reason.String())
}

// silent reports whether the endpoint had the request whole and let pass half of
// the time that ran out without a word.
func (ex *exchange) silent(reason Reason, end time.Time) bool {
	if ex.sentAt.IsZero() || ex.headed {
		return false
	}
	sent := ex.sentAt
	if up := ex.uploadEnd.Load(); up != 0 {
		sent = ex.start.Add(time.Duration(up))
	} else if !ex.reqBody.Done() {
		return false
	}
	whole := ex.rule.timeouts.Request
	switch reason {
	case ReasonBackendRequestTimeout:
		whole = ex.rule.timeouts.BackendRequest
	case ReasonRetryTimeout:
		whole = ex.rule.retry.TotalTimeout
	default:
	}
	return end.Sub(sent) >= whole/2
}
