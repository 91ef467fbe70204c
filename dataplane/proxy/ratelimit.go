package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/http1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

const (
	// maxKeys is how many keys of a rate limit are told apart at a time, in some
	// 300 KB. With more, they share buckets: see limit.Keyed.
	maxKeys = 16 << 10
	// maxAllKeys is how many those of all rate limits are, in some 19 MB, beside
	// the 64 that each has in any case.
	maxAllKeys = 1 << 20
)

// rateLimit is a compiled filter RateLimit.
type rateLimit struct {
	plan.RateLimit
	name    string // in RateLimit and RateLimit-Policy, with its quotes
	shared  string // the name of its buckets in limit.Shared
	buckets *buckets
}

// buckets are the token buckets of a filter. They are made for its first request.
type buckets struct {
	keyed   atomic.Pointer[limit.Keyed]
	retired atomic.Bool // no table has the filter any more, but requests may
}

func (b *buckets) retire() {
	b.retired.Store(true)
	if k := b.keyed.Load(); k != nil {
		k.Retire()
	}
}

// bucketsOf identifies buckets across tables: a filter keeps them as long as it
// says the same in the same place.
type bucketsOf struct {
	rule   RuleID
	filter int
	limit  plan.RateLimit
}

func (l *rateLimit) rate() limit.Rate {
	return limit.Rate{Count: l.Requests, Period: l.Period, Burst: l.Burst}
}

// take takes a token of the process's own buckets, which tell as many keys apart as
// the budget has.
func (l *rateLimit) take(budget *limit.KeyBudget, key []byte, now time.Time, replicas int) limit.Verdict {
	k := l.buckets.keyed.Load()
	if k == nil {
		keys := maxKeys
		if l.Key.Source == plan.LimitByRoute {
			keys = 1
		}
		l.buckets.keyed.CompareAndSwap(nil, limit.NewKeyed(l.rate(), keys, budget))
		k = l.buckets.keyed.Load()
		if l.buckets.retired.Load() {
			k.Retire()
		}
	}
	if l.Cluster {
		k.Share(replicas) // by each request, so that none undoes a change for good
	}
	return k.Take(key, now)
}

// limitRate takes a token of each rate limit of the rule. What a later one refuses
// has cost a token of those before it: the client did ask.
func (ex *exchange) limitRate() Reason {
	began := ex.now
	for i := range ex.rule.rates {
		l := &ex.rule.rates[i]
		v := ex.takeToken(l, began)
		if l.DryRun {
			ex.wouldLimit = ex.wouldLimit || !v.OK
			continue
		}
		// The client is told of the one that it meets first.
		if ex.rate == nil || !v.OK || v.Remaining < ex.allowance.Remaining {
			ex.rate, ex.allowance = l, v
		}
		if !v.OK {
			return ReasonRateLimited
		}
	}
	return ReasonOK
}

// takeOwn takes a token of the process's own buckets.
func (ex *exchange) takeOwn(l *rateLimit, key []byte) limit.Verdict {
	return l.take(ex.p.rateKeys, key, ex.now, ex.p.Replicas())
}

// takeToken takes a token of a rate limit: of the buckets that all replicas have in
// common, if it is theirs and they can be reached, else of the process's own. began
// is when the first one of the request was taken.
func (ex *exchange) takeToken(l *rateLimit, began time.Time) limit.Verdict {
	key := ex.limitKey(&l.Key)
	if !l.Cluster || ex.p.shared == nil {
		return ex.takeOwn(l, key)
	}
	v, ok := ex.p.shared.Take(l.shared, l.rate(), key, began, ex.now)
	ex.now = time.Now() // it may have waited
	if !ok {
		return ex.takeOwn(l, key)
	}
	if v.OK {
		// So that the own bucket has no burst to give when it has to step in.
		ex.takeOwn(l, key)
	}
	return v
}

// limitKey is what of the request a rate is limited by; empty when it has none.
func (ex *exchange) limitKey(k *plan.LimitKey) (key []byte) {
	switch k.Source {
	case plan.LimitByClientIP:
		ex.ip = limitedIP(ex.addr.Addr())
		return ex.ip[:]
	case plan.LimitByHeader:
		key, _ = ex.req.Header(k.Name)
	case plan.LimitByCookie:
		key, _ = cookie(&ex.req, k.Name)
	case plan.LimitByRoute:
	}
	return key
}

// limitedIP is the address that counts for a client: the whole of IPv4, and of
// IPv6 the /64, as whoever has one address of it has them all.
func limitedIP(a netip.Addr) [16]byte {
	b := a.As16()
	if a.Is6() {
		clear(b[8:])
	}
	return b
}

// appendRate tells the client of its rate limit (draft-ietf-httpapi-ratelimit-
// headers-10): r requests are left, and in t seconds all are there again.
func (ex *exchange) appendRate(out []byte) []byte {
	if ex.rate == nil {
		return out
	}
	out = append(out, ex.rule.ratePolicy...)
	out = append(out, "RateLimit: "...)
	out = append(out, ex.rate.name...)
	out = append(out, ";r="...)
	out = http1.AppendInt(out, int64(ex.allowance.Remaining))
	out = append(out, ";t="...)
	out = http1.AppendInt(out, seconds(ex.allowance.Reset))
	return append(out, "\r\n"...)
}

// appendRetryAfter tells a client that was turned away when to come back.
func (ex *exchange) appendRetryAfter(out []byte) []byte {
	out = append(out, "Retry-After: "...)
	out = http1.AppendInt(out, max(seconds(ex.allowance.RetryAfter), 1))
	return append(out, "\r\n"...)
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// limitRates compiles the rate limits among the filters of a rule. What prev has
// of their buckets is kept; prev may be nil.
func (c *rule) limitRates(filters []plan.Filter, prev *Table) {
	policy := ""
	for i := range filters {
		if filters[i].Type != plan.FilterRateLimit {
			continue
		}
		l := rateLimit{RateLimit: filters[i].RateLimit, name: rateName(len(c.rates))}
		if l.Cluster {
			l.shared = sharedName(c.id, i, &l.RateLimit)
		}
		of := bucketsOf{c.id, i, l.RateLimit}
		if prev != nil {
			l.buckets = prev.kept.buckets[of]
		}
		if l.buckets == nil {
			l.buckets = new(buckets)
		}
		c.rates = append(c.rates, l)
		c.rateKeys = append(c.rateKeys, of)
		if l.DryRun {
			continue
		}
		if policy != "" {
			policy += ", "
		}
		policy += l.name + ";q=" + strconv.Itoa(int(l.Requests)) + ";w=" + strconv.FormatInt(seconds(l.Period), 10)
	}
	if policy != "" {
		c.ratePolicy = "RateLimit-Policy: " + policy + "\r\n"
	}
}

// sharedName names the buckets of a limit in all replicas alike, and those of
// another limit in its place differently.
func sharedName(id RuleID, filter int, l *plan.RateLimit) string {
	by := l.Key.Source.String()
	if l.Key.Name != "" {
		by += "=" + l.Key.Name
	}
	return fmt.Sprintf("%s/%s/%s/%d:%d/%s/%d:%s", id.Namespace, id.Route, id.Rule, filter, l.Requests, l.Period, l.Burst, by)
}

// rateName is what clients know the nth rate limit of a rule by.
func rateName(n int) string {
	if n == 0 {
		return `"default"`
	}
	return `"default-` + strconv.Itoa(n+1) + `"`
}
