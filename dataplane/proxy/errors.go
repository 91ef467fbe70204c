package proxy

// Reason says how a request ended. The zero value is ReasonOK.
//
// There is one table of reasons in the process, below: it gives the status that
// is sent, the word in metrics and logs, the side that failed, whether the
// endpoint is to blame, and what may be tried again. Nothing anywhere matches
// the text of an error.
type Reason uint8

// The reasons. Their columns are in the table below.
const (
	// ReasonOK: the backend's answer was delivered whole, whatever its status.
	ReasonOK Reason = iota

	// ReasonMalformedRequest: the bytes are not an HTTP/1 request that every
	// reader would read the same way (RFC 9112; the log line's detail says what).
	ReasonMalformedRequest
	// ReasonRequestHeadTooLarge: the request line or header fields pass a limit.
	ReasonRequestHeadTooLarge
	// ReasonMethodRefused: CONNECT or TRACE.
	ReasonMethodRefused
	// ReasonUnsupported: a transfer coding, expectation or version that this
	// proxy does not implement.
	ReasonUnsupported
	// ReasonRequestHeaderTimeout: the client did not finish the header in time.
	ReasonRequestHeaderTimeout
	// ReasonRequestBodyTimeout: the client paused too long inside the body.
	ReasonRequestBodyTimeout
	// ReasonRequestBodyTooSlow: the client sent the body more slowly than the
	// rule's minRequestBodyRate.
	ReasonRequestBodyTooSlow
	// ReasonRequestBodyTooLarge: the body passes the rule's maxRequestBodyBytes.
	ReasonRequestBodyTooLarge
	// ReasonMalformedRequestBody: the chunked framing of the body is broken.
	ReasonMalformedRequestBody
	// ReasonClientGone: the client closed or reset its connection.
	ReasonClientGone
	// ReasonClientStalled: the client did not read the response in time.
	ReasonClientStalled

	// ReasonNoTable: no table has been applied yet.
	ReasonNoTable
	// ReasonNoRoute: no rule takes the request.
	ReasonNoRoute
	// ReasonRuleInvalid: the rule that takes the request could not be compiled.
	ReasonRuleInvalid
	// ReasonBackendUnresolved: the leg that was drawn names a Service or port
	// that does not exist or is not granted.
	ReasonBackendUnresolved
	// ReasonNoEndpoints: the pool has no endpoint that takes requests.
	ReasonNoEndpoints
	// ReasonOverloaded: the process has as many bytes in the buffers of its
	// connections as it may have.
	ReasonOverloaded
	// ReasonForwardsSpent: an OPTIONS that may not be forwarded any further, by its
	// Max-Forwards: the proxy is whom it asks (RFC 9110 section 7.6.2). No failure.
	ReasonForwardsSpent
	// ReasonRateLimited: a filter RateLimit of the rule refused the request.
	ReasonRateLimited
	// ReasonTooManyInFlight: as many requests of the rule are under way as its
	// maxInFlight says.
	ReasonTooManyInFlight
	// ReasonUpstreamOverflow: the pool has as many requests, or connections, as it
	// may have, and as many wait for it as may.
	ReasonUpstreamOverflow
	// ReasonUpstreamQueueTimeout: the request has waited for a place in the pool
	// for as long as one may.
	ReasonUpstreamQueueTimeout
	// ReasonRequestTimeout: the rule's request timeout passed.
	ReasonRequestTimeout
	// ReasonRetryTimeout: the total timeout of the rule's retry policy passed
	// before there was a response.
	ReasonRetryTimeout
	// ReasonLocalShortage: the proxy had no file descriptor, port or memory for a
	// connection.
	ReasonLocalShortage
	// ReasonInternal: a defect of the proxy itself.
	ReasonInternal
	// ReasonShutdown: a drain timeout of the process cut the exchange.
	ReasonShutdown

	// ReasonConnectRefused: the endpoint refused the connection.
	ReasonConnectRefused
	// ReasonConnectFailed: another failure to connect (no route, reset).
	ReasonConnectFailed
	// ReasonConnectTimeout: no connection within the rule's connect timeout.
	ReasonConnectTimeout
	// ReasonResponseHeaderTimeout: no response header within the rule's
	// responseHeader timeout.
	ReasonResponseHeaderTimeout
	// ReasonBackendRequestTimeout: an attempt took longer than the rule's
	// backendRequest timeout.
	ReasonBackendRequestTimeout
	// ReasonUpstreamReset: the endpoint closed or reset the connection before
	// its response header was complete.
	ReasonUpstreamReset
	// ReasonInvalidResponse: the response is not HTTP/1 that every reader would
	// read the same way, or passes a limit.
	ReasonInvalidResponse
	// ReasonResponseCut: the response ended before its framing said so.
	ReasonResponseCut
	// ReasonResponseBodyTimeout: the endpoint paused too long inside the body.
	ReasonResponseBodyTimeout
	// ReasonResponseBodyTooLarge: the body passes the rule's
	// maxResponseBodyBytes.
	ReasonResponseBodyTooLarge
	// ReasonEndpointDrained: the endpoint is terminating or gone, and the time of
	// its upgraded connections is up.
	ReasonEndpointDrained
	// ReasonStreamIdle: an upgraded connection or a stream was silent in both
	// directions for too long.
	ReasonStreamIdle

	reasonCount
)

// Side says who failed.
type Side uint8

// The sides. SideNone belongs to ReasonOK.
const (
	SideNone Side = iota
	SideClient
	SideProxy
	SideUpstream
)

// String returns the side's word in logs and metrics, "" for SideNone.
func (s Side) String() string {
	return [...]string{"", "client", "proxy", "upstream"}[s]
}

// reasonRow is a row of the reason table.
type reasonRow struct {
	label string
	// status is sent when nothing of a response has been; 0: the connection is
	// closed without an answer.
	status int
	// proxyStatus is the error type of the Proxy-Status field (RFC 9209, 2.3).
	proxyStatus string
	side        Side
	// close: the client's connection cannot be used for another request.
	close bool
	// blames says when the endpoint is to blame. Where it is not, the outcome
	// says nothing of it, neither good nor bad.
	blames blame
}

// blame says when a reason speaks against the endpoint.
type blame uint8

const (
	blamesNone blame = iota
	// blamesEndpoint: always.
	blamesEndpoint
	// blamesSilent: when the endpoint had the request whole, and let pass at
	// least half of the time that ran out without a word.
	blamesSilent
)

// reasons is the reason table. A failure after the response header was sent
// never sends a second status: it cuts the connection, visibly.
var reasons = [reasonCount]reasonRow{
	ReasonOK: {label: "ok"},

	ReasonMalformedRequest:     {"malformed_request", 400, "http_request_error", SideClient, true, blamesNone},
	ReasonRequestHeadTooLarge:  {"request_head_too_large", 431, "http_request_error", SideClient, true, blamesNone},
	ReasonMethodRefused:        {"method_refused", 405, "http_request_denied", SideClient, true, blamesNone},
	ReasonUnsupported:          {"unsupported", 501, "http_request_error", SideClient, true, blamesNone},
	ReasonRequestHeaderTimeout: {"request_header_timeout", 408, "http_request_error", SideClient, true, blamesNone},
	ReasonRequestBodyTimeout:   {"request_body_timeout", 408, "http_request_error", SideClient, true, blamesNone},
	ReasonRequestBodyTooSlow:   {"request_body_too_slow", 408, "http_request_error", SideClient, true, blamesNone},
	ReasonRequestBodyTooLarge:  {"request_body_too_large", 413, "http_request_denied", SideClient, true, blamesNone},
	ReasonMalformedRequestBody: {"malformed_request_body", 400, "http_request_error", SideClient, true, blamesNone},
	ReasonClientGone:           {"client_gone", 0, "", SideClient, true, blamesNone},
	ReasonClientStalled:        {"client_stalled", 0, "", SideClient, true, blamesNone},

	ReasonNoTable:              {"no_table", 503, "proxy_configuration_error", SideProxy, false, blamesNone},
	ReasonNoRoute:              {"no_route", 404, "destination_not_found", SideProxy, false, blamesNone},
	ReasonRuleInvalid:          {"rule_invalid", 500, "proxy_configuration_error", SideProxy, false, blamesNone},
	ReasonBackendUnresolved:    {"backend_unresolved", 500, "proxy_configuration_error", SideProxy, false, blamesNone},
	ReasonNoEndpoints:          {"no_endpoints", 503, "destination_unavailable", SideUpstream, false, blamesNone},
	ReasonOverloaded:           {"overloaded", 503, "http_request_denied", SideProxy, true, blamesNone},
	ReasonForwardsSpent:        {"forwards_spent", 200, "", SideClient, false, blamesNone},
	ReasonRateLimited:          {"rate_limited", 429, "http_request_denied", SideClient, false, blamesNone},
	ReasonTooManyInFlight:      {"too_many_requests_in_flight", 503, "http_request_denied", SideProxy, false, blamesNone},
	ReasonUpstreamOverflow:     {"upstream_overflow", 503, "connection_limit_reached", SideUpstream, false, blamesNone},
	ReasonUpstreamQueueTimeout: {"upstream_queue_timeout", 503, "connection_limit_reached", SideUpstream, false, blamesNone},
	ReasonRequestTimeout:       {"request_timeout", 504, "http_response_timeout", SideProxy, false, blamesSilent},
	ReasonRetryTimeout:         {"retry_timeout", 504, "http_response_timeout", SideProxy, false, blamesSilent},
	ReasonLocalShortage:        {"local_shortage", 503, "proxy_internal_error", SideProxy, false, blamesNone},
	ReasonInternal:             {"internal", 500, "proxy_internal_error", SideProxy, true, blamesNone},
	ReasonShutdown:             {"shutdown", 0, "", SideProxy, true, blamesNone},

	ReasonConnectRefused:        {"connect_refused", 502, "connection_refused", SideUpstream, false, blamesEndpoint},
	ReasonConnectFailed:         {"connect_failed", 502, "destination_ip_unroutable", SideUpstream, false, blamesEndpoint},
	ReasonConnectTimeout:        {"connect_timeout", 504, "connection_timeout", SideUpstream, false, blamesEndpoint},
	ReasonResponseHeaderTimeout: {"response_header_timeout", 504, "http_response_timeout", SideUpstream, false, blamesEndpoint},
	ReasonBackendRequestTimeout: {"backend_request_timeout", 504, "http_response_timeout", SideUpstream, false, blamesSilent},
	ReasonUpstreamReset:         {"upstream_reset", 502, "connection_terminated", SideUpstream, false, blamesEndpoint},
	ReasonInvalidResponse:       {"invalid_response", 502, "http_protocol_error", SideUpstream, false, blamesEndpoint},
	ReasonResponseCut:           {"response_cut", 502, "http_response_incomplete", SideUpstream, true, blamesEndpoint},
	ReasonResponseBodyTooLarge:  {"response_body_too_large", 502, "http_response_body_size", SideUpstream, false, blamesNone},
	ReasonEndpointDrained:       {"endpoint_drained", 0, "", SideUpstream, true, blamesNone},
	ReasonStreamIdle:            {"stream_idle_timeout", 0, "", SideProxy, true, blamesNone},
	ReasonResponseBodyTimeout:   {"response_body_timeout", 504, "http_response_timeout", SideUpstream, true, blamesEndpoint},
}

// silence reports whether a time for the endpoint's answer has passed.
func (r Reason) silence() bool {
	return r == ReasonResponseHeaderTimeout || reasons[r].blames == blamesSilent
}

// String returns the reason's word in metrics, logs and debug output.
func (r Reason) String() string { return reasons[r].label }

// Side returns who failed.
func (r Reason) Side() Side { return reasons[r].side }

// Status returns the status that the proxy answers with when nothing of a
// response has been sent; 0 means the connection is closed without an answer.
func (r Reason) Status() int { return reasons[r].status }

// Reasons returns every reason, ReasonOK included, in the order of the table.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
