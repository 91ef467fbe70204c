//go:build !linux

package http1_test

// acceptedPipe is nil: the server accepts connections of package net.
var acceptedPipe tcpPipes
