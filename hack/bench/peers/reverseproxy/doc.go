// Command reverseproxy is the proxy that a Go program gets from the standard
// library: net/http with httputil.ReverseProxy, tuned as its documentation
// advises (a buffer pool, enough idle connections). hack/bench compares with it.
//
// It owns nothing but its listener and runs until a signal; handlers run
// concurrently. It has no configuration to swap.
package main
