// Package retry owns the decision whether a request is tried again, and the
// budget that keeps retries from making a failure worse.
//
// # What may be tried again
//
// The question is not how an attempt failed but whether the endpoint can have
// processed it:
//
//	never processed   no byte was sent, or the endpoint says that it did not look
//	                  at the request (RFC 9113, 8.7): tried elsewhere at once, any
//	                  method, whatever the policy
//	stale             a kept connection ended without a byte of a response after
//	                  something was sent: an idempotent method without a body is
//	                  sent once more on a new connection (RFC 9112, 9.3.1)
//	maybe processed   everything else: only as the policy says
//
// Nothing is tried again once a byte of a response, that of a 1xx response
// included, went to the client; nor when the body is gone; nor at or after the
// deadline. An endpoint that was tried is not tried again, with one exception:
// that a kept connection ended says nothing of its endpoint, so when there is no
// other endpoint the same one gets the request on a new connection.
//
// A timeout of an attempt is the 504 that the client would get, and is tried
// again when the codes of the policy have 504.
//
// # What spends the budget
//
// A retry spends one unit when the attempt that failed may have been processed.
// So what endpoints process is bounded by the requests of clients and the budget
// alone, whatever the policies say. What was never processed spends nothing: it
// adds no work to the pool, only a connect, and a rollout that leaves one of four
// endpoints refusing would else use up the budget just when it must not show. Its
// own bound is maxUnsent tries a request, each at another endpoint; passive
// health checks take endpoints that do not connect out of the pool meanwhile.
//
// A hedge (Hedge) is sent beside an attempt that has not failed, so it may be
// processed as well: it is for safe methods without a body only, is one of the
// retries that the policy counts, and spends one unit like them.
//
// # Concurrency
//
// Decide, Hedge, Allows, ClassOf and ParseRetryAfter are pure. A Budget hangs on its
// pool, survives swaps of the table with it, and may be used by any number of
// goroutines; it is told the time.
package retry
