//go:build linux

// Command pause holds the namespaces of a Pod in the test cluster (../cluster.sh):
// kubelet starts it first in every Pod. It owns nothing, waits for the signal to
// end, and as process 1 of the Pod collects children that nobody else waits for.
package main
