// Package shared owns the token buckets that all replicas have in common: it
// keeps them in Redis, and is the only package that knows its client.
//
// # One call
//
// A request takes its token by one script, which Redis runs by itself and by its
// own clock: nobody else's matters, and nobody comes in between. A bucket is one
// key that expires when the bucket would be full, so that Redis holds what is in
// use only. The keys of requests, which may be secrets such as API keys, are
// hashed: Redis sees the names of limits, and hashes.
//
// There are no leases: each request that gets a token has cost a round trip, and
// the count is exact however unevenly requests are spread. What is saved is the
// round trips of those that get none. Redis says when there will be a token
// again, and before that nobody is asked, for a second at most: a flood of one
// client costs Redis some calls for each token and replica, not one for each
// request. See refusals.
//
// # When Redis cannot be reached
//
// A call may take Config.Timeout. The first one that fails ends the asking: from
// then on Take says at once that it does not know, until a probe, made each
// second in the background, has found that the script can be run in time. So what
// does not answer costs no request its time but those that are on their way to it
// when it is noticed, and each of these Config.Timeout at most, however many limits
// it has. A call that had little of that left, or found no connection, and failed for
// want of time says nothing of Redis.
//
// A probe first makes all connections, one after the other: no request waits for that,
// and a Redis that comes back is not met by a crowd.
//
// # Concurrency
//
// Take and Up may be called by any number of goroutines, Run by one, once. Nothing
// here hangs on a table or a plan: it survives every swap.
package shared
