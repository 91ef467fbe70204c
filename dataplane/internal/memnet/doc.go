// Package memnet owns a network in memory for tests: connections with bounded
// buffers, half-close, resets and deadlines, which block in a way that
// testing/synctest understands. Dial and Accept work as with TCP; nothing
// leaves the process and nothing survives it. All methods may be called
// concurrently.
package memnet
