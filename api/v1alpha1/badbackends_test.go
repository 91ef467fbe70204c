package v1alpha1_test

import (
	"strings"
)

// What follows are the bad stanzas of BackendSettings, wherever they stand, and
// bad sessions.

func badSessions(add adder) {
	const kind, path, at = "ProxyRoute", "rules.0.sessionPersistence.", "spec.rules[0].sessionPersistence."
	add(kind, "rules.0.onNoEndpoints", "Retry", "spec.rules[0].onNoEndpoints", supported("Reject", "Rebalance"))
	add(kind, path+"type", "Header", at+"type", supported("Cookie"))
	add(kind, path+"sessionName", "", at+"sessionName", tooShort)
	add(kind, path+"sessionName", strings.Repeat("a", 65), at+"sessionName", tooLong(64))
	for _, name := range []string{"a b", "a;b", "a=b", `a"b`, "h\u00e9"} {
		add(kind, path+"sessionName", name, at+"sessionName", mismatch(tokenPattern))
	}
	place{kind, path, at}.durations(add, "absoluteTimeout")
}

func (at place) durations(add adder, field string) { badDurations(at.add(add), field) }

// badNumbers are those outside of a range.
func badNumbers(add stanzaAdder, field string, low, high int) {
	add(field, low-1, field, atLeast(low))
	add(field, high+1, field, atMost(high))
}

func badLoadBalancing(add stanzaAdder) {
	const at = "loadBalancing."
	add(at+"type", "Best", at+"type", supported("LeastRequest", "RoundRobin", "PeakEWMA", "ConsistentHash", "Random", "FirstHealthy"))
	const hash = "consistentHash is for type: ConsistentHash, and required there"
	add(at+"type", "Random", "loadBalancing", hash)
	add(at+"type", unset{}, "loadBalancing", hash)
	add(at+"consistentHash", unset{}, "loadBalancing", hash)
	add(at+"consistentHash.type", "Body", at+"consistentHash.type", supported("Header", "Cookie", "QueryParam", "SourceIP"))
	add(at+"consistentHash.type", unset{}, at+"consistentHash.type", "Required value")
	const name = "name is required, except for type: SourceIP, which has none"
	add(at+"consistentHash.type", "SourceIP", at+"consistentHash", name)
	add(at+"consistentHash.name", unset{}, at+"consistentHash", name)
	for _, kind := range []string{"Header", "Cookie"} {
		add(at+"consistentHash", map[string]any{"type": kind, "name": "a b"}, at+"consistentHash", "name must be a token (RFC 9110, 5.6.2)")
	}
	add(at+"consistentHash.name", "", at+"consistentHash.name", tooShort)
	add(at+"consistentHash.name", strings.Repeat("a", 257), at+"consistentHash.name", tooLong(256))
	add(at+"slowStart.window", unset{}, at+"slowStart.window", "Required value")
	badDurations(add, at+"slowStart.window")
	badNumbers(add, at+"slowStart.minWeightPercent", 1, 100)
	add(at+"topology", "Near", at+"topology", supported("PreferClose", "Off"))
}

func badActiveChecks(add stanzaAdder) {
	const active = "healthCheck.active"
	const at = active + "."
	add(at+"type", "ICMP", at+"type", supported("HTTP", "TCP", "GRPC"))
	badDurations(add, at+"interval")
	badDurations(add, at+"timeout")
	for _, interval := range []string{"0s", "99ms", "1h1ms"} {
		add(at+"interval", interval, active, "interval must be 100ms to 1h")
	}
	add(at+"timeout", "0s", active, "timeout must not be 0s")
	const shorter = "timeout (default 5s) must be shorter than interval (default 10s)"
	add(at+"timeout", "10s", active, shorter)
	add(active, map[string]any{"timeout": "10s"}, active, shorter)
	add(active, map[string]any{"interval": "5s"}, active, shorter)
	badNumbers(add, at+"jitterPercent", 0, 50)
	badNumbers(add, at+"unhealthyThreshold", 1, 100)
	badNumbers(add, at+"healthyThreshold", 1, 100)
	badNumbers(add, at+"port", 1, 65535)

	add(at+"type", "TCP", active, "http is for type: HTTP")
	for _, kind := range []string{"HTTP", "TCP"} {
		add(active, map[string]any{"type": kind, "grpc": map[string]any{}}, active, "grpc is for type: GRPC")
	}
	for _, path := range []string{"", "health", "/a b", "/a#b", "/h\u00e9", "/a\nb", "/a%zz", "/a?b=%"} {
		add(at+"http.path", path, at+"http.path", mismatch(checkPathPattern))
	}
	add(at+"http.path", "/"+strings.Repeat("a", 1024), at+"http.path", tooLong(1024))
	for _, host := range []string{"", "*.example.com", "a:80", "A.example.com", "a..b"} {
		add(at+"http.hostname", host, at+"http.hostname", mismatch(exactHostPattern))
	}
	add(at+"http.hostname", strings.Repeat("a.", 127), at+"http.hostname", tooLong(253))
	add(at+"http.method", "POST", at+"http.method", supported("GET", "HEAD", "OPTIONS"))
	add(at+"http.expectedStatuses", []any{}, at+"http.expectedStatuses", tooFew)
	badStatuses(add, at+"http.expectedStatuses")

	service := func(value string) any {
		return map[string]any{"type": "GRPC", "grpc": map[string]any{"service": value}}
	}
	add(active, service(""), at+"grpc.service", tooShort)
	add(active, service(strings.Repeat("a", 257)), at+"grpc.service", tooLong(256))
	add(active, service("a b"), at+"grpc.service", mismatch(`^[!-~]*$`))
}

func badStatuses(add stanzaAdder, field string) {
	statuses := func(start, end int) any { return map[string]any{"start": start, "end": end} }
	add(field, many(17, func(int) any { return statuses(500, 500) }), field, tooMany(16))
	add(field+".0.start", unset{}, field+"[0].start", "Required value")
	add(field+".0.end", unset{}, field+"[0].end", "Required value")
	add(field+".0", statuses(99, 600), field+"[0].start", atLeast(100))
	add(field+".0", statuses(99, 600), field+"[0].end", atMost(599))
	add(field+".0", statuses(600, 99), field+"[0].start", atMost(599))
	add(field+".0", statuses(600, 99), field+"[0].end", atLeast(100))
	add(field+".0", statuses(300, 299), field+"[0]", "start must not be above end")
}

func badPassiveChecks(add stanzaAdder) {
	const passive = "healthCheck.passive"
	const at = passive + "."
	badNumbers(add, "healthCheck.panicThresholdPercent", 0, 100)
	badNumbers(add, at+"consecutiveFailures", 0, 1000)
	badStatuses(add, at+"statuses")
	badDurations(add, at+"baseEjectionTime")
	badDurations(add, at+"maxEjectionTime")
	add(at+"baseEjectionTime", "99ms", passive, "baseEjectionTime must be at least 100ms")
	const longer = "maxEjectionTime (default 5m) must not be shorter than baseEjectionTime (default 30s)"
	add(at+"maxEjectionTime", "29s", passive, longer)
	add(at+"baseEjectionTime", "5m1ms", passive, longer)
	badNumbers(add, at+"maxEjectionPercent", 1, 100)
	add(at+"failurePercent.threshold", unset{}, at+"failurePercent.threshold", "Required value")
	badNumbers(add, at+"failurePercent.threshold", 0, 100)
	badNumbers(add, at+"failurePercent.minRequests", 1, 1000000)
	badDurations(add, at+"failurePercent.window")
	for _, window := range []string{"0s", "999ms", "10m1ms"} {
		add(at+"failurePercent.window", window, at+"failurePercent", "window must be 1s to 10m")
	}
}

func badConnections(add stanzaAdder) {
	badNumbers(add, "connection.maxIdlePerEndpoint", 0, 65535)
	badDurations(add, "connection.idleTimeout")
	badDurations(add, "connection.maxAge")
	badDurations(add, "drain.timeout")
}

func badRetries(add stanzaAdder) {
	badNumbers(add, "retry.attempts", 0, 10)
	codes := func(i int) any { return 400 + i }
	add("retry.codes", many(33, codes), "retry.codes", tooMany(32))
	add("retry.codes.0", 399, "retry.codes[0]", atLeast(400))
	add("retry.codes.0", 600, "retry.codes[0]", atMost(599))
	add("retry.codes", []any{503, 502, 503}, "retry", "codes must be unique")
	add("retry.conditions", many(4, func(int) any { return "Reset" }), "retry.conditions", tooMany(3))
	add("retry.conditions.0", "Timeout", "retry.conditions[0]", supported("ConnectFailure", "Reset", "Codes"))
	add("retry.conditions", []any{"Reset", "Reset"}, "retry", "conditions must be unique")
	add("retry.methods", "Some", "retry.methods", supported("Safe", "Idempotent", "Any"))
	for _, name := range []string{"totalTimeout", "backoff", "maxBackoff", "hedgeAfter"} {
		badDurations(add, "retry."+name)
	}
	const shorter = "maxBackoff (default 1s) must not be shorter than backoff (default 50ms)"
	add("retry.backoff", "1001ms", "retry", shorter)
	add("retry.maxBackoff", "49ms", "retry", shorter)
	add("retry.hedgeAfter", "0s", "retry", "hedgeAfter must be longer than 0s")
	add("retry.hedgeAfter", "5s", "retry", "hedgeAfter must be shorter than totalTimeout (default 5s)")
	add("retry", map[string]any{"hedgeAfter": "1s", "totalTimeout": "1s"}, "retry", "hedgeAfter must be shorter than totalTimeout (default 5s)")
	add("retry", map[string]any{"hedgeAfter": "1s", "attempts": 0}, "retry", "hedgeAfter needs attempts (default 1) above 0")
}

func badRetryBudgets(add stanzaAdder) {
	const at = "retryBudget."
	badNumbers(add, at+"percent", 0, 100)
	badDurations(add, at+"interval")
	badNumbers(add, at+"minRetryRate.count", 0, 1000000)
	badDurations(add, at+"minRetryRate.interval")
	for _, interval := range []string{"0s", "999ms", "1h1ms"} {
		add(at+"interval", interval, "retryBudget", "interval must be 1s to 1h")
	}
	for _, interval := range []string{"0s", "99ms", "1h1ms"} {
		add(at+"minRetryRate.interval", interval, at+"minRetryRate", "interval must be 100ms to 1h")
	}
}

const (
	tokenPattern     = "^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$"
	checkPathPattern = `^/([!"$&-~]|%[0-9a-fA-F]{2})*$`
	exactHostPattern = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
)

func badBreakers(add stanzaAdder) {
	const at = "circuitBreaker."
	for _, field := range []string{"maxConnections", "maxParallelRequests", "perEndpoint.maxParallelRequests"} {
		badNumbers(add, at+field, 0, 1000000)
	}
	badNumbers(add, at+"maxPendingRequests", 0, 65535)
	badDurations(add, at+"pendingTimeout")
	for _, field := range []string{"minParallelRequests", "maxParallelRequests"} {
		badNumbers(add, at+"adaptive."+field, 1, 1000000)
	}
	for _, value := range []map[string]any{
		{"minParallelRequests": 5, "maxParallelRequests": 4}, {"minParallelRequests": 1001}, {"maxParallelRequests": 3},
	} {
		add(at+"adaptive", value, at+"adaptive", "minParallelRequests must not be above maxParallelRequests")
	}
}

func badFilters(add adder) {
	const kind, path, at = "ProxyRoute", "rules.0.filters", "spec.rules[0].filters"
	limit := func(int) any { return map[string]any{"type": "RateLimit", "rateLimit": map[string]any{"requests": 1}} }
	add(kind, path, many(17, limit), at, tooMany(16))
	add(kind, path+".0.type", unset{}, at+"[0].type", "Required value")
	add(kind, path+".0.type", "Rate", at+"[0].type", supported("RateLimit"))
	add(kind, path+".0.rateLimit", unset{}, at+"[0]", "rateLimit is for type: RateLimit, and required there")
	p := place{kind, path + ".0.rateLimit.", at + "[0].rateLimit."}
	bad := p.add(add)
	bad("requests", unset{}, "requests", "Required value")
	badNumbers(bad, "requests", 1, 1000000)
	badNumbers(bad, "burst", 1, 1000000)
	badDurations(bad, "period")
	for _, value := range []string{"0s", "999ms", "24h1ms"} {
		add(kind, path+".0.rateLimit.period", value, at+"[0].rateLimit", "period must be 1s to 24h")
	}
	const name = "name is for type: Header and type: Cookie, and required there"
	bad("key.type", "Body", "key.type", supported("ClientIP", "Header", "Cookie", "Route"))
	for _, key := range []map[string]any{{"type": "Header"}, {"type": "Cookie"}, {"name": "a"}, {"type": "ClientIP", "name": "a"}, {"type": "Route", "name": "a"}} {
		bad("key", key, "key", name)
	}
	bad("scope", "World", "scope", supported("Replica", "Cluster"))
	bad("key.name", "", "key.name", tooShort)
	bad("key.name", strings.Repeat("a", 257), "key.name", tooLong(256))
	bad("key.name", "a b", "key.name", mismatch(tokenPattern))
}
