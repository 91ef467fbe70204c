// Package route owns the routing table, which says who takes a request by its
// host, path, method, headers and query, and the one spelling of a path that
// everybody matches, logs and forwards (CanonicalPath).
//
// # Precedence
//
// Of all matches that a request meets, the best one takes it:
//
//	host         exact > wildcard with the longest suffix > "*"
//	path type    Exact > PathPrefix > RegularExpression
//	path length  the longer prefix
//	method       a match that names a method > one that does not
//	headers      more header conditions
//	query        more query conditions
//	order        the earlier entry, then the earlier match in it
//
// Each step decides only between those that the steps above leave equal. All
// hosts that fit are asked: what the exact host has no match for falls to the
// wildcards, and then to "*". A prefix matches by segment (/a takes /a and
// /a/b, not /ab). A wildcard stands for one or more labels. A regular
// expression is RE2 and must match the whole value.
//
// # Layout
//
// Hosts sit in one open-addressed hash table, wildcards under their suffix
// (".example.com"). A host holds one trie by path segment, for exact paths and
// prefixes alike: one walk finds both, and from the deepest node reached the up
// links lead through ever shorter prefixes. Nodes are a flat slice; a node with
// few children chains them, one with many finds them in the host's hash index.
// The candidates of a node lie side by side, best first. What costs memory or
// time is paid by those who use it: conditions, regular expressions and the
// index are absent where no match needs them.
//
// # What survives a swap
//
// A Table is immutable and may be used by any number of goroutines. Build makes
// a new one; it shares with its predecessor the compiled hosts whose entries
// did not change, and the compiled regular expressions. Nothing else survives.
//
// Explain answers the same question as Match from the entries alone, with code
// of its own, so that each can be held against the other.
package route
