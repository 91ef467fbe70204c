// Package planfile owns the file that keeps the last good plan, and how many replicas
// of the proxy there were, across restarts, for a start without an API server.
//
// The file is written whole to a temporary one, synced and renamed over the old
// one, so that there is always one that is complete. It begins with a line that
// names the format, a fingerprint of the plan's types, and the length and SHA-256
// of what follows, which is both in encoding/gob. A file that is cut or
// damaged, or that a program wrote whose plan has other types, is refused: it is
// never read in part.
//
// The file holds the keys of session cookies, so only its owner can read it.
//
// A Store's methods may be called concurrently, Load before Run.
package planfile
