// Package e2e owns the tests that go all the way: objects in a real API server,
// the controllers, the data plane and requests over sockets. It has no code
// besides its tests.
//
// An API server refuses loopback addresses in EndpointSlices, so the tests give
// endpoints addresses of a documentation range and the data plane a dialer that
// leads these to backends on loopback.
package e2e
