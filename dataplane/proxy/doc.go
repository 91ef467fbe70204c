// Package proxy owns the life of one request: the spine of phases from the
// parsed head to the one place where every request ends, and the reason table
// (errors.go) that says what each failure is called, answers and costs.
//
// The compiled rules live in a table that is loaded once per request and kept
// to its end, so that no request mixes two plans. A Proxy may be used from any
// number of goroutines; an exchange belongs to one client connection. Nothing
// of an exchange survives it; what survives a swap of tables hangs on the pools
// and endpoints of package upstream.
package proxy
