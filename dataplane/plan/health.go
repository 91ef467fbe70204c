package plan

import (
	"net/netip"
	"time"
)

// PoolHealth counts the endpoints of a pool by what is known of them: each is
// in one of the four, or in none when Kubernetes calls it neither ready nor
// serving.
type PoolHealth struct {
	// Ready ones are called ready by Kubernetes, and nothing speaks against
	// them; Draining ones are terminating.
	Ready, Draining int
	// Ejected ones are ready but have failed requests; Unhealthy ones are ready
	// but fail their active checks.
	Ejected, Unhealthy int
	// Panic: so few are usable that health is not looked at.
	Panic bool
}

// Transition is a change in what is known of an endpoint.
type Transition struct {
	Pool     PoolKey
	Endpoint netip.AddrPort
	// From and To are the words for its states: "serving", "ejected", "probing"
	// and "unhealthy".
	From, To string
	// Why says what brought it about, for people.
	Why  string
	Time time.Time
}
