package plan

import "time"

// Retry says which failed requests of a rule are tried again. With the zero
// value only what was provably never processed is, on another endpoint. It is
// comparable.
type Retry struct {
	// Attempts after the first one that may reach an endpoint's application; 0 =
	// none. Attempts that provably did not are not counted.
	Attempts uint8
	// On is what a request that may have been processed is tried again after.
	On RetryOn
	// Codes are the statuses of RetryCodes. 504 stands for an attempt that timed
	// out, too.
	Codes StatusSet
	// Methods of requests that may have been processed already.
	Methods RetryMethods
	// TotalTimeout is from the start of the exchange to the response's head: no
	// attempt starts after it, and a running one is cut at it; 0 = none.
	TotalTimeout time.Duration
	// Backoff is the most that is waited before the first attempt after a request
	// that may have been processed. It doubles with each one, up to MaxBackoff;
	// what is waited is drawn evenly from zero to that. Backoff 0 = no wait,
	// MaxBackoff 0 = no bound.
	Backoff, MaxBackoff time.Duration
	// MaxBodyBytes of a body that is kept to be sent again; 0 = none is.
	MaxBodyBytes int64
	// HonorRetryAfter waits for as long as a Retry-After field asks.
	HonorRetryAfter bool
	// HedgeAfter is how long a safe request waits for the head of a response
	// before it is sent to another endpoint as well; 0 = never. It counts from
	// the start of an attempt, connecting included. The second attempt is one of
	// Attempts. Requests with a body and upgrades are not hedged.
	HedgeAfter time.Duration
}

// RetryOn is a set of conditions.
type RetryOn uint8

// The conditions.
const (
	// RetryConnectFailure is always in force, because what failed to connect was
	// never sent: being in the set changes nothing.
	RetryConnectFailure RetryOn = 1 << iota
	// RetryReset: the connection ended after bytes of the request were sent and
	// before the head of a response was there.
	RetryReset
	// RetryCodes: a response's status is one of Codes.
	RetryCodes
)

// RetryMethods is a set of methods (RFC 9110, 9.2).
type RetryMethods uint8

// The sets of methods, each with those before it.
const (
	RetrySafe       RetryMethods = iota // GET, HEAD, OPTIONS, TRACE
	RetryIdempotent                     // and PUT, DELETE
	RetryAny                            // every method
)

// RetryBudget bounds the attempts after the first ones of a pool: Percent of the
// requests of the last Interval and, on top, MinCount in MinInterval. With the
// zero value there are none. It is comparable.
type RetryBudget struct {
	Percent     uint8
	Interval    time.Duration // 0 = no share
	MinCount    uint32
	MinInterval time.Duration // 0 = no minimum
}
