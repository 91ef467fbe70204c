package proxy

import (
	"net/netip"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/retry"
)

// RuleID names a rule in metrics and logs. The zero value stands for the
// requests that no rule took.
type RuleID struct {
	Namespace, Route, Rule string
}

// Record is what is known of a request at its end. It is made in one place,
// once per request, and given to the rule's Series and to the Sink. It and its
// byte slices are valid only during those calls.
type Record struct {
	Start time.Time
	// Duration is from the first byte of the request read to the last byte of
	// the response written.
	Duration time.Duration
	// Connect is the time spent on establishing a connection; 0 when one was
	// reused. UpstreamHeader is from the request sent to the response's header
	// read; 0 when there was none.
	Connect, UpstreamHeader time.Duration

	Rule   RuleID
	Client netip.AddrPort
	// Endpoint that answered or failed; zero when none was picked.
	Endpoint netip.AddrPort

	// Method, Host, Path and Query are as matched and forwarded; empty when the
	// request could not be parsed.
	Method, Host, Path, Query []byte
	UserAgent                 []byte
	RequestID                 []byte
	Proto                     string // "HTTP/1.1"; "" when the request could not be parsed

	// Status that was sent to the client; 0 when nothing was.
	Status int
	Reason Reason
	// Detail says more about Reason where there is more to say; else "".
	Detail string
	// WouldLimit: a rate limit that only counts would have refused it.
	WouldLimit bool
	// Attempts is how often an endpoint was tried.
	Attempts int
	// Stopped is why nothing more was tried after an attempt had failed, or, when
	// the last one succeeded, why there was one after the first; retry.WhyFinal
	// when no attempt failed or was hedged.
	Stopped retry.Why
	// BytesIn and BytesOut count the payload of the request's body read from the
	// client and of the response's body read for it.
	BytesIn, BytesOut int64
}

// Series are the counters of one rule. Begin and End are called once per request
// each, all of them concurrently.
type Series interface {
	// Begin is called when the rule has taken a request.
	Begin()
	// End is called when that request has ended.
	End(r *Record)
	// Retry is called when an attempt has failed, or was slow where the rule hedges,
	// with the decision's reason: to try again, or not to.
	Retry(why retry.Why)
}

// Sink receives what the proxy tells about its requests.
type Sink interface {
	// Series returns the counters of a rule, the same for equal ids. It is
	// called when a plan is applied, never per request.
	Series(id RuleID) Series
	// Retain drops the series of all rules that are not in ids. It is called
	// after a plan was applied.
	Retain(ids []RuleID)
	// Log is called at the end of every request, concurrently. It must not
	// block.
	Log(r *Record)
}
