package plan

const (
	// ServedPath is the page of the admin port that takes a ServedQuery.
	ServedPath = "/debug/served"
	// NoSuchPage is the body, but for a newline, of every 404 of the admin port, by
	// which a process that has no ServedPath yet is told from other programs. It
	// must stay as it is.
	NoSuchPage = "no such page: GET / lists the pages"
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
