package retry

// Class of a method: what it means to process a request twice (RFC 9110, 9.2).
type Class uint8

// The classes. Unsafe is the zero value: what is not known is not repeated.
const (
	Unsafe     Class = iota // POST, PATCH and every method that is not known
	Idempotent              // PUT, DELETE
	Safe                    // GET, HEAD, OPTIONS, TRACE
)

// ClassOf returns the class of a method, which is case-sensitive.
func ClassOf(method []byte) Class {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return Safe
	case "PUT", "DELETE":
		return Idempotent
	}
	return Unsafe
}

// Body says whether a request's body can be sent again.
type Body uint8

// The states of a body. BodyLost is the zero value.
const (
	BodyLost   Body = iota // bytes of it are gone: it was streamed, or is too large
	BodyNone               // the request has none
	BodyUnsent             // nothing of it was taken from the client's connection yet
	BodyKept               // all that was taken is kept
)

// Sent says how much of an attempt was written to a connection.
type Sent uint8

// The amounts. SentUnknown is the zero value and as bad as SentSome.
const (
	SentUnknown Sent = iota
	SentNone         // provably not one byte
	SentSome
)

// Outcome says how an attempt failed.
type Outcome uint8

// The outcomes. OutcomeFinal is the zero value.
const (
	// OutcomeFinal is nothing to try again after: a success, a client that is
	// gone, a request that is refused, a response that is not HTTP.
	OutcomeFinal Outcome = iota
	// OutcomeConnect: no connection, be it refused, failed or not in time.
	OutcomeConnect
	// OutcomeStale: a kept connection ended before a byte of a response.
	OutcomeStale
	// OutcomeReset: a connection ended before the head of a response.
	OutcomeReset
	// OutcomeUnprocessed: the endpoint says that it did not process the request,
	// by REFUSED_STREAM or a GOAWAY with a lower stream (RFC 9113, 8.7).
	OutcomeUnprocessed
	// OutcomeTimeout: a timeout of the attempt passed.
	OutcomeTimeout
	// OutcomeStatus: there is a response, and its status is to be judged.
	OutcomeStatus
)

// Action is what happens next.
type Action uint8

// The actions.
const (
	Stop      Action = iota // the client gets what there is
	Elsewhere               // an attempt on an endpoint that was not tried
	Reconnect               // an attempt on the same endpoint, on a new connection
)

// Why is the reason of a decision.
type Why uint8

// The reasons: first those to stop, then those to go on.
const (
	WhyFinal      Why = iota // nothing to try again after
	WhyCommitted             // bytes of a response went to the client
	WhyBody                  // the body cannot be sent again
	WhyPolicy                // the policy does not ask for it
	WhyMethod                // the method is not one of the policy's
	WhyAttempts              // there were as many attempts as may be
	WhyEndpoints             // every endpoint was tried
	WhyRetryAfter            // the endpoint asks for a longer wait than there is time
	WhyDeadline              // the attempt would start too late
	WhyBudget                // the pool's budget is used up

	WhyUnsent  // no endpoint has processed the request
	WhyStale   // a kept connection ended under an idempotent request
	WhyReset   // a connection ended
	WhyTimeout // an attempt timed out
	WhyStatus  // a status that the policy names
	WhyHedge   // no answer for a while

	whyCount
)

// String returns the reason's word in metrics, logs and debug output.
func (w Why) String() string {
	return [whyCount]string{
		"final", "committed", "body", "policy", "method", "attempts", "endpoints", "retry_after", "deadline", "budget",
		"unsent", "stale", "reset", "timeout", "status", "hedge",
	}[w]
}

// Again reports whether it is a reason to try again.
func (w Why) Again() bool { return w >= WhyUnsent }

// Whys returns every reason, in order.
func Whys() []Why {
	all := make([]Why, whyCount)
	for i := range all {
		all[i] = Why(i)
	}
	return all
}
