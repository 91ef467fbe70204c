// Package proxyproto parses the header of the PROXY protocol, versions 1 and 2,
// with which a load balancer that forwards TCP says who its client is
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt; sections below
// are of that text).
//
// It owns the grammar and nothing else: Parse is a pure function over the bytes
// at the start of a connection, and says how many more can be read without
// taking a byte of what follows the header. So whoever reads needs no buffer
// behind the header, and the connection below stays a plain one. Everything may
// be called concurrently.
//
// It is stricter than the text where that costs nobody anything: numbers have
// no leading zeros, a header of version 2 is at most 4 KiB, and UDP and UNIX
// addresses, which no client of a TCP listener has, are errors.
package proxyproto
