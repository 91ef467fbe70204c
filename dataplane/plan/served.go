package plan

const (
	// ServedPath is the page of the admin port that takes a ServedQuery.
	ServedPath = "/debug/served"
	// MaxServedUIDs is how many routes one ServedQuery may ask about.
	MaxServedUIDs = 10_000
)

// ServedQuery asks a process which generations of some routes it serves.
type ServedQuery struct {
	UIDs []string `json:"uids"`
}

// ServedAnswer has the generation of the route of each UID of a query, in the
// query's order; 0: it serves nothing of that route.
type ServedAnswer struct {
	Generations []int64 `json:"generations"`
}
