package limit

import "time"

// Shared is token buckets that several processes have in common. It may be used
// by any number of goroutines.
type Shared interface {
	// Take takes a token of the bucket that a limit has for a key, if there is
	// one. name is that of the limit, the same in all processes, and different
	// for limits with different rates; the key is not kept. Take may wait, within
	// a bound of its own after began: that is when the request took its first
	// token, so that all that it takes wait no longer together than one. ok is
	// false when nobody can say at the moment how full the bucket is: then the
	// caller goes by what it knows itself.
	Take(name string, r Rate, key []byte, began, now time.Time) (v Verdict, ok bool)
	// Up reports whether the buckets could be reached when they last were asked.
	Up() bool
}
