// Command backend is the server behind the proxies of hack/bench: it answers
// GETs of three sizes and takes uploads, at as little cost as Go allows, and
// understands just what HTTP/1.1 the proxies speak to it (no chunked requests).
// It takes all uploads, because nginx answers them before it has read them, and
// everything where nginx is not installed.
//
// It owns its listeners and runs until a signal; each connection has a goroutine
// and shares nothing with the others. There is no configuration to swap.
package main
