// Command run is `make run`: a playground on loopback in one command. It starts
// a small HTTP server for every endpoint that the sample manifests name, builds
// the real binary, runs it on those manifests, and prints what to try.
//
// It owns the sample backends and the life of the process it starts: however it
// ends (Ctrl-C, SIGTERM, the death of the proxy, of `make` or of `go run`),
// the proxy, the listeners and the temporary binary go with it. A backend's
// handler runs concurrently; everything else is one goroutine. It knows the
// proxy only by its command line and its ports, so tables and their swaps do
// not concern it.
package main
