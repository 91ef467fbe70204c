package v1alpha1_test

import (
	"fmt"
	"strings"
)

// badObject is a base object with one field made bad, and what the API server
// says about it.
type badObject struct {
	kind  string
	path  string // below spec; what is set
	value any    // unset{}: the field is removed

	field   string // the field that the answer names
	message string // what the answer ends with
}

func badObjects() []badObject {
	var all []badObject
	add := func(kind, path string, value any, field, message string) {
		all = append(all, badObject{kind, path, value, field, message})
	}
	badRoutes(add)
	badMatches(add)
	badBackends(add)
	badPolicies(add)
	badClasses(add)
	badSessions(add)
	badFilters(add)
	for _, at := range []place{
		{"ProxyRoute", "rules.0.", "spec.rules[0]."},
		{"ProxyClass", "defaults.", "spec.defaults."},
	} {
		badStanzas(at.add(add))
		badRetries(at.add(add))
	}
	for _, at := range []place{
		{"ProxyRoute", "rules.0.backendPolicy.", "spec.rules[0].backendPolicy."},
		{"ProxyClass", "defaults.backendPolicy.", "spec.defaults.backendPolicy."},
		{"BackendPolicy", "", "spec."},
	} {
		badLoadBalancing(at.add(add))
		badActiveChecks(at.add(add))
		badPassiveChecks(at.add(add))
		badConnections(at.add(add))
		badBreakers(at.add(add))
		badRetryBudgets(at.add(add))
	}
	return all
}

type adder = func(kind, path string, value any, field, message string)

// place is where several kinds have the same stanzas.
type place struct{ kind, path, field string }

// add returns an adder of bad stanzas of the place.
func (at place) add(add adder) stanzaAdder {
	return func(path string, value any, field, message string) {
		add(at.kind, at.path+path, value, at.field+field, message)
	}
}

type stanzaAdder = func(path string, value any, field, message string)

func badRoutes(add adder) {
	const kind = "ProxyRoute"
	rule := func(name string) map[string]any {
		r := map[string]any{"backendRefs": many(1, backend)}
		if name != "" {
			r["name"] = name
		}
		return r
	}
	unnamed := func(int) any { return rule("") }

	add(kind, "className", "", "spec.className", tooShort)
	add(kind, "className", strings.Repeat("a", 254), "spec.className", tooLong(253))
	add(kind, "hostnames", many(17, func(i int) any { return fmt.Sprintf("h%d.example.com", i) }), "spec.hostnames", tooMany(16))
	add(kind, "hostnames", []any{"a.example.com", "a.example.com"}, "spec.hostnames[1]", `Duplicate value: "a.example.com"`)
	add(kind, "hostnames.0", "", "spec.hostnames[0]", tooShort)
	for _, host := range []string{
		"Shop.example.com", "shop.example.com.", "shop.example.com:80", "*", "a.*.example.com", "*.*.example.com",
		"*shop.example.com", "-a.example.com", "a-.example.com", "a..example.com", "a_b.example.com", "shop/x", "[::1]",
	} {
		add(kind, "hostnames.0", host, "spec.hostnames[0]", mismatch(hostnamePattern))
	}
	add(kind, "hostnames.0", strings.Repeat("a.", 127), "spec.hostnames[0]", tooLong(253))

	add(kind, "rules", unset{}, "spec.rules", "Required value")
	add(kind, "rules", []any{}, "spec.rules", tooFew)
	add(kind, "rules", many(17, unnamed), "spec.rules", tooMany(16))
	add(kind, "rules", []any{rule("a"), rule(""), rule("a")}, "spec", "rule names must be unique")
	for _, name := range []string{"Api", "-a", "a-", "a.b", "a_b"} {
		add(kind, "rules.0.name", name, "spec.rules[0].name", mismatch(labelPattern))
	}
	add(kind, "rules.0.name", strings.Repeat("a", 64), "spec.rules[0].name", tooLong(63))
	add(kind, "rules.0", map[string]any{
		"backendRefs": []any{map[string]any{"name": "web", "port": 80}},
		"retry":       map[string]any{"hedgeAfter": "1s"}, "timeouts": map[string]any{"backendRequest": "1s"},
	}, "spec.rules[0]", "retry.hedgeAfter must be shorter than timeouts.backendRequest")
	add(kind, "rules.0.name", "rule-0", "spec.rules[0]", "names of the form rule-<number> are given to rules without a name")
}

func badMatches(add adder) {
	const kind, path, at = "ProxyRoute", "rules.0.matches.0.", "spec.rules[0].matches[0]."
	add(kind, "rules.0.matches", many(17, func(int) any { return map[string]any{} }), "spec.rules[0].matches", tooMany(16))
	add(kind, path+"method", "get", at+"method", supported("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))
	add(kind, path+"method", "CONNECT", at+"method", supported("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))

	add(kind, path+"path.type", "Prefix", at+"path.type", supported("Exact", "PathPrefix", "RegularExpression"))
	add(kind, path+"path.value", "", at+"path.value", tooShort)
	add(kind, path+"path.value", "/"+strings.Repeat("a", 1024), at+"path.value", tooLong(1024))
	for value, message := range map[string]string{
		"api":        "path must start with '/'",
		"/a//b":      "path must not contain '//'",
		"/a/./b":     "path must not contain a '.' segment",
		"/a/.":       "path must not contain a '.' segment",
		"/a/../b":    "path must not contain a '..' segment",
		"/a/..":      "path must not contain a '..' segment",
		"/a%2fb":     "path must not contain '%2f'",
		"/a%2Fb":     "path must not contain '%2f'",
		"/a#b":       "path must not contain '#'",
		"/a?b=c":     "path must not contain '?'; use queryParams",
		"/a b":       pathCharacters,
		"/a%zz":      pathCharacters,
		"/a%":        pathCharacters,
		"/caf\u00e9": pathCharacters,
		`/a\b`:       pathCharacters,
		`/a"b`:       pathCharacters,
	} {
		add(kind, path+"path.value", value, at+"path", message)
		add(kind, path+"path", map[string]any{"type": "Exact", "value": value}, at+"path", message)
	}

	condition := func(i int) any { return map[string]any{"name": fmt.Sprintf("n%d", i), "value": "v"} }
	for _, list := range []struct {
		name     string
		maxValue int
	}{{"headers", 4096}, {"queryParams", 1024}} {
		field := at + list.name
		p, f := path+list.name+".0.", field+"[0]."
		add(kind, path+list.name, many(17, condition), field, tooMany(16))
		add(kind, path+list.name, []any{condition(1), condition(1)}, field+"[1]", `Duplicate value: {"name":"n1"}`)
		add(kind, p+"type", "Prefix", f+"type", supported("Exact", "RegularExpression"))
		add(kind, p+"name", unset{}, f+"name", "Required value")
		add(kind, p+"name", "", f+"name", tooShort)
		add(kind, p+"name", strings.Repeat("a", 257), f+"name", tooLong(256))
		add(kind, p+"value", unset{}, f+"value", "Required value")
		add(kind, p+"value", "", f+"value", tooShort)
		add(kind, p+"value", strings.Repeat("a", list.maxValue+1), f+"value", tooLong(list.maxValue))
	}
	// An underscore is a token character of HTTP, but backends that follow CGI
	// cannot tell it from "-": such headers do not take part in routing.
	for _, name := range []string{"x_canary", "x canary", "x:canary", "h\u00e9"} {
		add(kind, path+"headers.0.name", name, at+"headers[0].name", mismatch(headerPattern))
	}
}

func badBackends(add adder) {
	const kind, path, at = "ProxyRoute", "rules.0.backendRefs", "spec.rules[0].backendRefs"
	add(kind, path, unset{}, at, "Required value")
	add(kind, path, []any{}, at, tooFew)
	add(kind, path, many(17, backend), at, tooMany(16))
	add(kind, path+".0.weight", 0, "spec.rules[0]", "at least one backendRef must have a weight above 0")
	add(kind, path+".0.weight", -1, at+"[0].weight", "in body should be greater than or equal to 0")
	add(kind, path+".0.weight", 1000001, at+"[0].weight", "in body should be less than or equal to 1000000")
	add(kind, path+".0.namespace", "", at+"[0].namespace", tooShort)
	add(kind, path+".0.namespace", strings.Repeat("a", 64), at+"[0].namespace", tooLong(63))
	add(kind, path+".0.port", unset{}, at+"[0].port", "Required value")
	badServicePort(add, kind, path+".0.", at+"[0].")
}

func badPolicies(add adder) {
	const kind, at = "BackendPolicy", "spec.targetRefs"
	target := func(int) any { return map[string]any{"name": "api"} }
	add(kind, "targetRefs", unset{}, at, "Required value")
	add(kind, "targetRefs", []any{}, at, tooFew)
	add(kind, "targetRefs", many(17, target), at, tooMany(16))
	add(kind, "targetRefs.0.kind", "Pod", at+"[0].kind", supported("Service"))
	badServicePort(add, kind, "targetRefs.0.", at+"[0].")
}

func badServicePort(add adder, kind, path, at string) {
	add(kind, path+"name", unset{}, at+"name", "Required value")
	add(kind, path+"name", "", at+"name", tooShort)
	add(kind, path+"name", strings.Repeat("a", 254), at+"name", tooLong(253))
	for _, port := range []int{-1, 0, 65536, 1 << 40} {
		add(kind, path+"port", port, at+"port", "port must be 1 to 65535 or a port name")
	}
	for _, port := range []string{"", "HTTP", "-http", "http-", "a_b"} {
		add(kind, path+"port", port, at+"port", mismatch(portPattern))
	}
	add(kind, path+"port", strings.Repeat("a", 64), at+"port", tooLong(63))
}

func badClasses(add adder) {
	const kind, path, at = "ProxyClass", "allowedRoutes.0.", "spec.allowedRoutes[0]."
	add(kind, "allowedRoutes", many(65, func(int) any { return map[string]any{} }), "spec.allowedRoutes", tooMany(64))
	add(kind, path+"hostnames", many(65, func(i int) any { return fmt.Sprintf("h%d.example.com", i) }), at+"hostnames", tooMany(64))
	add(kind, path+"hostnames", []any{"*", "*"}, at+"hostnames[1]", `Duplicate value: "*"`)
	add(kind, path+"hostnames.0", "", at+"hostnames[0]", tooShort)
	for _, host := range []string{"**", "a.*", "*.", "*.Example.com", "example.com."} {
		add(kind, path+"hostnames.0", host, at+"hostnames[0]", mismatch(grantPattern))
	}
	add(kind, path+"hostnames.0", strings.Repeat("a.", 127), at+"hostnames[0]", tooLong(253))

	const selector = "selector is for from: Selector, and required there"
	add(kind, path+"namespaces.from", "Same", at+"namespaces.from", supported("All", "Selector"))
	add(kind, path+"namespaces.from", "All", at+"namespaces", selector)
	add(kind, path+"namespaces.from", unset{}, at+"namespaces", selector)
	add(kind, path+"namespaces.selector", unset{}, at+"namespaces", selector)
	labels := map[string]any{}
	for i := range 17 {
		labels[fmt.Sprintf("l%d", i)] = "v"
	}
	add(kind, path+"namespaces.selector.matchLabels", labels, at+"namespaces", "selector must have at most 16 matchLabels")
	add(kind, path+"namespaces.selector.matchExpressions", many(17, func(int) any {
		return map[string]any{"key": "team", "operator": "Exists"}
	}), at+"namespaces", "selector must have at most 16 matchExpressions")
}

// badStanzas are those that rules and class defaults share.
func badStanzas(add stanzaAdder) {
	for _, name := range []string{"request", "backendRequest", "connect", "responseHeader", "requestBodyIdle", "responseBodyIdle", "streamIdle"} {
		badDurations(add, "timeouts."+name)
	}
	for _, name := range []string{"backendRequest", "connect", "responseHeader"} {
		add("timeouts", map[string]any{"request": "1s", name: "1001ms"}, "timeouts", name+" must not be longer than request")
	}
	for _, size := range []string{"limits.maxRequestBodyBytes", "limits.maxResponseBodyBytes", "retry.maxBodyBytes"} {
		for _, value := range []int{-1, 1 << 31} {
			add(size, value, size, `must be 0 to 2147483647 bytes, or a string such as "16Mi"`)
		}
		for _, value := range []string{"", "16MiB", "-1", "1.5Gi", "16 Mi", "16mi", "1e3", "1Ei", strings.Repeat("1", 16)} {
			add(size, value, size, mismatch(sizePattern))
		}
		add(size, strings.Repeat("1", 21), size, tooLong(20))
	}
	add("limits.minRequestBodyRate", -1, "limits.minRequestBodyRate", atLeast(0))
	add("limits.minRequestBodyRate", 1000000001, "limits.minRequestBodyRate", atMost(1000000000))
	badNumbers(add, "limits.maxInFlight", 0, 1000000)
}

// badDurations are those of a field that takes a duration.
func badDurations(add stanzaAdder, field string) {
	for _, value := range []string{"", "5", "1.5s", "-1s", "1d", "5 s", "100000s", "1h1h1h1h1h", "1us"} {
		add(field, value, field, mismatch(durationPattern))
	}
	add(field, strings.Repeat("1", 32)+"s", field, tooLong(32))
}

const (
	hostnamePattern = `^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	grantPattern    = `^(\*|(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$`
	labelPattern    = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	portPattern     = `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	headerPattern   = "^[A-Za-z0-9!#$%&'*+\\-.^`|~]+$"
	durationPattern = `^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	sizePattern     = `^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$`
	tooShort        = "in body should be at least 1 chars long"
	tooFew          = "in body should have at least 1 items"

	pathCharacters = "path must hold only characters allowed in a URL path (RFC 3986, 3.3); percent-encode the others"
)

func mismatch(pattern string) string { return "in body should match '" + pattern + "'" }

func tooLong(n int) string { return fmt.Sprintf("may not be more than %d bytes", n) }
func atLeast(n int) string { return fmt.Sprintf("in body should be greater than or equal to %d", n) }
func atMost(n int) string  { return fmt.Sprintf("in body should be less than or equal to %d", n) }
func tooMany(n int) string { return fmt.Sprintf("must have at most %d items", n) }

func supported(values ...string) string {
	return `supported values: "` + strings.Join(values, `", "`) + `"`
}

func many(n int, element func(int) any) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = element(i)
	}
	return list
}

func backend(int) any { return map[string]any{"name": "api", "port": 8080} }
