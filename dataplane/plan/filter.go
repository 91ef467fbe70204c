package plan

import "time"

// Filter is a step that the requests of a rule go through, in order. It is
// comparable.
type Filter struct {
	Type FilterType
	// RateLimit is for FilterRateLimit, else the zero value.
	RateLimit RateLimit
}

// FilterType names what a filter does.
type FilterType uint8

// The filters.
const (
	FilterRateLimit FilterType = iota + 1 // answers with 429 what is above a rate
)

// RateLimit lets Requests in Period through, evenly, and Burst at once.
type RateLimit struct {
	Requests uint32
	Period   time.Duration
	Burst    uint32
	Key      LimitKey
	// Cluster: it is for all replicas of the process together, which count
	// together or let equal parts through.
	Cluster bool
	// DryRun counts what would be turned away, and turns nothing away.
	DryRun bool
}

// LimitKey says what requests share a rate. Those without the header or cookie
// share one, too.
type LimitKey struct {
	Source LimitSource
	Name   string // of the header (in lower case) or cookie
}

// LimitSource is the kind of a LimitKey.
type LimitSource uint8

// The kinds of keys.
const (
	LimitByClientIP LimitSource = iota // the client's address; of IPv6, the /64 that it is in
	LimitByHeader
	LimitByCookie
	LimitByRoute // all requests of the rule
)

// String returns the kind's word in the API.
func (s LimitSource) String() string {
	return [...]string{"ClientIP", "Header", "Cookie", "Route"}[s]
}
