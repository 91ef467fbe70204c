// Package limit owns the limits of what goes on at a time and in a time. Each is
// a small machine of its own that decides and counts; what a refusal looks like
// to a client, and whether it is only recorded, is its caller's business.
//
//	Bucket      a token bucket
//	Keyed       a token bucket for each key, in bounded memory
//	KeyBudget   the keys of all Keyed
//	Shared      token buckets that several processes have in common; see shared
//	InFlight    a counter with a limit
//	Gate        a limit with a bounded queue, first come, first served
//	Breaker     the limits of a pool: a Gate fed by several bounds
//	Adaptive    a limit that is found from latencies
//	ByteBudget  the bytes held in buffers
//
// # What survives a swap
//
// Whatever the caller keeps: a limiter hangs on what it limits, not on a table. A
// Breaker hangs on its pool, whose key has the breaker's policy; a Keyed or
// Bucket on the rule and the filter that it belongs to, for as long as the rate
// stays; an InFlight on the rule, whatever its limit becomes, because the limit
// is told at each call; one ByteBudget and one KeyBudget on the process.
//
// # Concurrency and time
//
// Everything may be called by any number of goroutines, and nothing starts one.
// Everything is told the time, whose monotonic part counts, and only Gate.Enter
// and a Shared wait. No call on a request's way allocates, but for the places of a
// queue the first time that it is as long, and a Keyed that comes to more keys.
package limit
