// Package cluster owns the tests of the chart and the image in a real Kubernetes,
// with traffic from outside of it. It has no code besides its tests, which need the
// build tag "cluster" and run on the node of hack/kube/cluster.sh:
//
//	make e2e
//
// Steps of a test build on each other, as the life of a release does: install,
// serve, upgrade, roll back, uninstall. Where the proxy is what changes, requests are
// POSTs over kept-alive connections, which no client may send again on its own: what
// gets lost shows.
//
// A slow machine, or a busy one, must not fail a test. So a step waits for the very
// state that the next one needs, however long that takes within patience, and never
// for a time; the kubelet's view of a Pod, the API's and that of who gets its traffic
// differ meanwhile. Times that are promised are measured, and have to hold once in a
// few tries (timely).
package cluster
