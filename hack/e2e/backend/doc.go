// Command backend is what stands behind the proxy in the tests in a cluster: it
// answers every request with the name of its Pod, and /healthz with 200, or with 503
// after a POST to /healthz?ready=false.
//
// On SIGTERM it goes on serving for -linger, as an application does that knows how
// late load balancers learn, then finishes what it has. It owns nothing else.
package main
