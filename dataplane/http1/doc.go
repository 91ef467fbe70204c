// Package http1 is the wire of HTTP/1.0 and 1.1 (RFC 9110, 9112): it parses and
// writes the heads of messages, takes chunked bodies apart, and owns the
// connections and the buffers below them.
//
// # Parsing
//
// ParseRequest, ParseResponse and Chunked.Scan work on the bytes of the caller
// without copying: what they return are views, valid as long as those bytes.
// They take input cut anywhere, never allocate once warm, and never read or keep
// more than they were given. They are strict: whatever two readers could
// understand in two ways is refused, not repaired, and the connection must be
// closed (see Error and the table in fault.go). What is accepted has one
// spelling afterwards: a lower-case host, a canonical path (package route), one
// length; so what is matched, what is logged and what is forwarded are the same
// bytes.
//
//	RFC 9112 allows                    here, in requests and in responses
//	LF alone as the end of a line      refused
//	folded fields to be unfolded       refused
//	CL beside TE, with TE winning      refused
//	identical CLs, also as a list      one is kept; a list is refused
//	codings before chunked             refused: 501 in a request
//	white space after a chunk size     refused
//	empty lines before a request       one is skipped
//	no space after the status code     accepted if there is no reason phrase
//
// A Field says by its Kind whether the proxy has business with it, and by Drop
// that it ends here: hop-by-hop fields, those that Connection names (which
// cannot be fields that have a Kind, such as Host, in whatever letter case),
// and names that a backend could take for others: with '_' in requests, or such
// that only '-' becoming another separator makes them one of ours. Connection,
// Upgrade, TE and Transfer-Encoding are to be written anew from what the parsed
// message says.
//
// # Ownership
//
// Nothing here knows of routes or plans, so a swap of the table touches
// nothing. A Request, Response, Chunked, Body or Conn belongs to one goroutine at
// a time, apart from the methods of Conn that say otherwise. Limits and errors
// are shared and not written to. The package imports the standard library,
// package route.
package http1
