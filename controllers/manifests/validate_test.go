package manifests

import (
	"errors"
	"slices"
	"strings"
	"testing"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const validRoute = `
apiVersion: ferrum.dev/v1alpha1
kind: ProxyRoute
metadata: {name: web}
spec:
  hostnames: [web.example.com, "*.example.com"]
  rules:
  - backendRefs: [{name: web, port: 80}]
  - name: api
    matches:
    - path: {type: Exact, value: "/a-b/~c/%20;x"}
      method: GET
      headers: [{name: X-A, value: "1"}]
      queryParams: [{name: v, value: "2"}]
    - path: {type: RegularExpression, value: "/a//b/(.*)#?"}
    backendRefs: [{name: web, port: http, weight: 0}, {name: web, port: 80, namespace: other, weight: 1}]
    timeouts: {request: 1m, connect: 1s, responseHeader: 60s, backendRequest: 59s}
    retry: {codes: [502, 503], conditions: [Reset, Codes], backoff: 10ms, maxBackoff: 2s, maxBodyBytes: 2Mi}
    limits: {maxRequestBodyBytes: 16Mi}
    filters: [{type: RateLimit, rateLimit: {requests: 10, period: 1m, key: {type: Header, name: x-user}}}]
    backendPolicy: {loadBalancing: {type: RoundRobin}}
`

const validPolicy = `
apiVersion: ferrum.dev/v1alpha1
kind: BackendPolicy
metadata: {name: web}
spec:
  targetRefs: [{name: web}, {kind: Service, name: api, port: 80}, {name: api, port: http}]
  loadBalancing: {}
`

const validClass = `
apiVersion: ferrum.dev/v1alpha1
kind: ProxyClass
metadata: {name: ferrum}
spec:
  allowedRoutes:
  - namespaces: {from: All}
    hostnames: ["*", "*.example.com", example.com]
  - namespaces: {from: Selector, selector: {matchLabels: {team: a}}}
  defaults:
    timeouts: {request: 0s, connect: 5s}
    retry: {codes: [502, 503], conditions: [Reset, Codes], backoff: 10ms, maxBackoff: 2s, maxBodyBytes: 2Mi}
    limits: {maxRequestBodyBytes: 0}
`

func TestValidObjectsPass(t *testing.T) {
	for _, p := range settingsPlaces {
		if errs := Validate([]byte(p.object)); len(errs) > 0 {
			t.Errorf("%s\n%v", p.object, errors.Join(errs...))
		}
	}
	for _, manifest := range []string{
		validRoute, validPolicy, validClass,
		"apiVersion: ferrum.dev/v1alpha1\nkind: ProxyClass\nmetadata: {name: empty}\n",
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None}}",
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: a.example}}",
		"{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: YQ==}}",
		"{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {b: c}}}",
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, endpoints: [{addresses: [127.0.0.1]}]}",
		"{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: a}, spec: {from: [{group: ferrum.dev, kind: ProxyRoute, namespace: a}], to: [{group: '', kind: Service}]}}",
		"{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: a}, spec: {from: [{group: ferrum.dev, kind: ProxyRoute, namespace: a}], to: [{group: '', kind: Service, name: b}]}}",
	} {
		if errs := Validate([]byte(manifest)); len(errs) > 0 {
			t.Errorf("%s\n%v", manifest, errors.Join(errs...))
		}
	}
}

// ruleCases breaks each rule of the schemas, in the words of replacements in a
// valid object, and has the message that comes.
var ruleCases = append(slices.Concat(settingsCases(), retryCases()), []ruleCase{
	{validRoute, "- backendRefs", "- name: api\n    backendRefs", "spec", "rule names must be unique"},
	{validRoute, "port: 80}]\n", "port: 80, weight: 0}]\n", "spec.rules[0]", "at least one backendRef must have a weight above 0"},
	{validRoute, "name: api", "name: rule-7", "spec.rules[1]", "names of the form rule-<number> are given to rules without a name"},
	{validRoute, "port: 80}]\n", "port: 0}]\n", "spec.rules[0].backendRefs[0].port", "port must be 1 to 65535 or a port name"},
	{validRoute, "/a-b", "a-b", "spec.rules[1].matches[0].path", "path must start with '/'"},
	{validRoute, "/a-b", "//a-b", "spec.rules[1].matches[0].path", "path must not contain '//'"},
	{validRoute, "/a-b", "/./a-b", "spec.rules[1].matches[0].path", "path must not contain a '.' segment"},
	{validRoute, "%20;x", "..", "spec.rules[1].matches[0].path", "path must not contain a '..' segment"},
	{validRoute, "%20;x", "%2Fx", "spec.rules[1].matches[0].path", "path must not contain '%2f'"},
	{validRoute, "%20;x", "#x", "spec.rules[1].matches[0].path", "path must not contain '#'"},
	{validRoute, "%20;x", "?x", "spec.rules[1].matches[0].path", "path must not contain '?'; use queryParams"},
	{validRoute, "%20;x", "a b", "spec.rules[1].matches[0].path",
		"path must hold only characters allowed in a URL path (RFC 3986, 3.3); percent-encode the others"},
	{validRoute, "request: 1m, connect: 1s", "request: 1s, connect: 2s", "spec.rules[1].timeouts", "connect must not be longer than request"},
	{validRoute, "maxBackoff: 2s", "maxBackoff: 2s, hedgeAfter: 59s, totalTimeout: 0s", "spec.rules[1]", "retry.hedgeAfter must be shorter than timeouts.backendRequest"},
	{validRoute, "request: 1m", "request: 30s", "spec.rules[1].timeouts", "responseHeader must not be longer than request"},
	{validRoute, "backendRequest: 59s", "backendRequest: 61s", "spec.rules[1].timeouts", "backendRequest must not be longer than request"},
	{validRoute, "16Mi", "-1", "spec.rules[1].limits.maxRequestBodyBytes", `must be 0 to 2147483647 bytes, or a string such as "16Mi"`},
	{validRoute, "{type: RateLimit, rateLimit: {requests: 10, period: 1m, key: {type: Header, name: x-user}}}", "{type: RateLimit}",
		"spec.rules[1].filters[0]", "rateLimit is for type: RateLimit, and required there"},
	{validRoute, "period: 1m", "period: 25h", "spec.rules[1].filters[0].rateLimit", "period must be 1s to 24h"},
	{validRoute, ", name: x-user", "", "spec.rules[1].filters[0].rateLimit.key", "name is for type: Header and type: Cookie, and required there"},
	{validPolicy, "port: 80", "port: 65536", "spec.targetRefs[1].port", "port must be 1 to 65535 or a port name"},
	{validClass, "from: All", "from: Selector", "spec.allowedRoutes[0].namespaces", "selector is for from: Selector, and required there"},
	{validClass, "matchLabels: {team: a}", "matchLabels: {" + manyLabels(17) + "}", "spec.allowedRoutes[1].namespaces", "selector must have at most 16 matchLabels"},
	{validClass, "matchLabels: {team: a}", "matchExpressions: [" + strings.Repeat("{key: a, operator: Exists},", 17) + "]",
		"spec.allowedRoutes[1].namespaces", "selector must have at most 16 matchExpressions"},
	{validClass, "request: 0s", "request: 4s", "spec.defaults.timeouts", "connect must not be longer than request"},
	{validClass, "request: 0s, connect: 5s", "request: 4s, backendRequest: 5s", "spec.defaults.timeouts", "backendRequest must not be longer than request"},
	{validClass, "request: 0s, connect: 5s", "request: 4s, responseHeader: 5s", "spec.defaults.timeouts", "responseHeader must not be longer than request"},
	{validClass, "maxRequestBodyBytes: 0", "maxRequestBodyBytes: 2147483648", "spec.defaults.limits.maxRequestBodyBytes", `must be 0 to 2147483647 bytes, or a string such as "16Mi"`},
}...)

type ruleCase struct {
	object, old, new string
	path, message    string
}

// validSettings are stanzas that have a rule each.
const validSettings = `
loadBalancing: {type: ConsistentHash, consistentHash: {type: Header, name: x-a}},
healthCheck: {
  active: {type: HTTP, interval: 10s, timeout: 5s, http: {path: /health, expectedStatuses: [{start: 200, end: 399}]}},
  passive: {statuses: [{start: 502, end: 504}], failurePercent: {threshold: 1, window: 10s}, baseEjectionTime: 30s, maxEjectionTime: 5m}},
connection: {},
circuitBreaker: {adaptive: {minParallelRequests: 5, maxParallelRequests: 50}},
retryBudget: {interval: 11s, minRetryRate: {interval: 12s}}`

// settingsPlaces are where stanzas may stand.
var settingsPlaces = []struct{ object, path string }{
	{"apiVersion: ferrum.dev/v1alpha1\nkind: ProxyRoute\nmetadata: {name: web}\n" +
		"spec: {rules: [{backendRefs: [{name: web, port: 80}], backendPolicy: {" + validSettings + "}}]}", "spec.rules[0].backendPolicy."},
	{"apiVersion: ferrum.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {name: web}\n" +
		"spec: {targetRefs: [{name: web}], " + validSettings + "}", "spec."},
	{"apiVersion: ferrum.dev/v1alpha1\nkind: ProxyClass\nmetadata: {name: web}\n" +
		"spec: {defaults: {backendPolicy: {" + validSettings + "}}}", "spec.defaults.backendPolicy."},
}

// settingsCases breaks each rule of the stanzas in each place.
func settingsCases() (all []ruleCase) {
	for _, p := range settingsPlaces {
		for _, c := range []struct{ old, new, path, message string }{
			{"type: ConsistentHash", "type: Random", "loadBalancing", "consistentHash is for type: ConsistentHash, and required there"},
			{", name: x-a", "", "loadBalancing.consistentHash", "name is required, except for type: SourceIP, which has none"},
			{"x-a", "x a", "loadBalancing.consistentHash", "name must be a token (RFC 9110, 5.6.2)"},
			{"type: HTTP", "type: TCP", "healthCheck.active", "http is for type: HTTP"},
			{"http: {", "grpc: {}, http: {", "healthCheck.active", "grpc is for type: GRPC"},
			{"interval: 10s", "interval: 2h", "healthCheck.active", "interval must be 100ms to 1h"},
			{"timeout: 5s", "timeout: 0s", "healthCheck.active", "timeout must not be 0s"},
			{"timeout: 5s", "timeout: 10s", "healthCheck.active", "timeout (default 5s) must be shorter than interval (default 10s)"},
			{"start: 200", "start: 400", "healthCheck.active.http.expectedStatuses[0]", "start must not be above end"},
			{"start: 502", "start: 505", "healthCheck.passive.statuses[0]", "start must not be above end"},
			{"window: 10s", "window: 11m", "healthCheck.passive.failurePercent", "window must be 1s to 10m"},
			{"baseEjectionTime: 30s", "baseEjectionTime: 1ms", "healthCheck.passive", "baseEjectionTime must be at least 100ms"},
			{"interval: 11s", "interval: 999ms", "retryBudget", "interval must be 1s to 1h"},
			{"interval: 12s", "interval: 99ms", "retryBudget.minRetryRate", "interval must be 100ms to 1h"},
			{"maxEjectionTime: 5m", "maxEjectionTime: 1s", "healthCheck.passive",
				"maxEjectionTime (default 5m) must not be shorter than baseEjectionTime (default 30s)"},
			{"maxParallelRequests: 50", "maxParallelRequests: 4", "circuitBreaker.adaptive", "minParallelRequests must not be above maxParallelRequests"},
		} {
			all = append(all, ruleCase{p.object, c.old, c.new, p.path + c.path, c.message})
		}
	}
	return all
}

// retryCases breaks each rule of the stanza retry.
func retryCases() (all []ruleCase) {
	for object, path := range map[string]string{validRoute: "spec.rules[1].retry", validClass: "spec.defaults.retry"} {
		all = append(all, []ruleCase{
			{object, "[502, 503]", "[503, 503]", path, "codes must be unique"},
			{object, "[Reset, Codes]", "[Reset, Reset]", path, "conditions must be unique"},
			{object, "maxBackoff: 2s", "maxBackoff: 9ms", path, "maxBackoff (default 1s) must not be shorter than backoff (default 50ms)"},
			{object, "maxBackoff: 2s", "maxBackoff: 2s, hedgeAfter: 0s", path, "hedgeAfter must be longer than 0s"},
			{object, "maxBackoff: 2s", "maxBackoff: 2s, hedgeAfter: 1s, attempts: 0", path, "hedgeAfter needs attempts (default 1) above 0"},
			{object, "maxBackoff: 2s", "maxBackoff: 2s, hedgeAfter: 5s", path, "hedgeAfter must be shorter than totalTimeout (default 5s)"},
			{object, "maxBodyBytes: 2Mi", "maxBodyBytes: -1", path + ".maxBodyBytes", `must be 0 to 2147483647 bytes, or a string such as "16Mi"`},
		}...)
	}
	return all
}

func manyLabels(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("l" + string(rune('a'+i)) + ": x, ")
	}
	return b.String()
}

func TestEveryRuleOfTheSchemasIsCheckedOffline(t *testing.T) {
	for _, c := range ruleCases {
		t.Run(c.message, func(t *testing.T) {
			if !strings.Contains(c.object, c.old) {
				t.Fatalf("the valid object has no %q", c.old)
			}
			errs := Validate([]byte(strings.Replace(c.object, c.old, c.new, 1)))
			if !slices.ContainsFunc(errs, func(err error) bool { return says(err, c.path, c.message) }) {
				t.Errorf("want %s: %s, got\n%v", c.path, c.message, errors.Join(errs...))
			}
		})
	}

	// A rule that is added to the API must have a case here.
	kinds, err := customKinds()
	if err != nil {
		t.Fatal(err)
	}
	for gvk, k := range kinds {
		walkRules(k.structural, func(message string) {
			if !slices.ContainsFunc(ruleCases, func(c ruleCase) bool {
				return c.message == message && strings.Contains(c.object, "kind: "+gvk.Kind+"\n")
			}) {
				t.Errorf("%s: no case breaks the rule %q", gvk.Kind, message)
			}
		})
	}
}

func says(err error, path, message string) bool {
	var fe *field.Error
	return errors.As(err, &fe) && fe.Field == path && strings.HasSuffix(err.Error(), ": "+message)
}

func walkRules(s *structuralschema.Structural, visit func(message string)) {
	for _, r := range s.XValidations {
		visit(r.Message)
	}
	for name := range s.Properties {
		p := s.Properties[name]
		walkRules(&p, visit)
	}
	if s.Items != nil {
		walkRules(s.Items, visit)
	}
}

func TestObjectsOfKubernetesAreDecodedStrictlyAndChecked(t *testing.T) {
	const (
		service = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}"
		slice   = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, labels: {kubernetes.io/service-name: a}}, " +
			"addressType: IPv6, ports: [{name: http, port: 80, protocol: TCP}], endpoints: [{addresses: ['fd00::1']}]}"
		grant = "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: a}, " +
			"spec: {from: [{group: ferrum.dev, kind: ProxyRoute, namespace: shop}], to: [{group: '', kind: Service}]}}"
		namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"
		secret    = "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: YQ==}}"
	)
	for _, c := range []struct{ object, old, new, want string }{
		{service, "name: a}", "name: a.b}", "metadata.name"},
		{service, "name: a}", "name: a, namespace: A}", "metadata.namespace"},
		{service, "ports:", "prots:", `unknown field "spec.prots"`},
		{service, "port: 80", "port: 0", "spec.ports[0].port"},
		{service, "port: 80", "port: http", "spec.ports.port"},
		{service, "name: http, ", "", "spec.ports[0].name: Required"},
		{service, "name: http", "name: Http", "spec.ports[0].name: Invalid"},
		{service, "name: http", "name: dns", "spec.ports[1].name: Duplicate"},
		{service, "port: 53, protocol: UDP", "port: 80", "spec.ports[1]: Duplicate"},
		{service, "protocol: UDP", "protocol: ICMP", "spec.ports[1].protocol: Unsupported"},
		{service, "spec: {", "spec: {type: ExternalName, ", "spec.externalName: Required"},
		{service, "spec: {", "spec: {type: Elastic, ", "spec.type: Unsupported"},
		{service, "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]", "", "spec.ports: Required"},
		{slice, "IPv6", "IPv5", "addressType: Unsupported"},
		{slice, "addressType: IPv6, ", "", "addressType: Required"},
		{slice, "IPv6", "IPv4", "endpoints[0].addresses[0]: Invalid"},
		{slice, "IPv6", "FQDN", "endpoints[0].addresses[0]: Invalid"},
		{slice, "fd00::1", "fe80::1%eth0", "endpoints[0].addresses[0]: Invalid"},
		{slice, "fd00::1", "::", "may not be unspecified"},
		{slice, "fd00::1", "ff02::1", "may not be a multicast address"},
		{slice, "['fd00::1']", "[]", "endpoints[0].addresses: Required"},
		{slice, "['fd00::1']", "[" + strings.Repeat("'fd00::1',", 101) + "]", "endpoints[0].addresses: Too many"},
		{slice, "[{addresses: ['fd00::1']}]", "[" + strings.Repeat("{addresses: ['fd00::1']},", 1001) + "]", "endpoints: Too many"},
		{slice, "kubernetes.io/service-name", "app", "metadata.labels[kubernetes.io/service-name]: Required"},
		{slice, "port: 80", "port: 65536", "ports[0].port: Invalid"},
		{slice, "protocol: TCP}", "protocol: TCP}, {name: http, port: 81}", "ports[1].name: Duplicate"},
		{slice, "name: http", "name: ht_tp", "ports[0].name: Invalid"},
		{slice, "protocol: TCP", "protocol: tcp", "ports[0].protocol: Unsupported"},
		{grant, "from: [{group: ferrum.dev, kind: ProxyRoute, namespace: shop}], ", "", "spec.from: Required"},
		{grant, "to: [{group: '', kind: Service}]", "to: []", "spec.to: Required"},
		{grant, ", namespace: shop", "", "spec.from[0].namespace: Required"},
		{grant, "namespace: shop", "namespace: a.b", "spec.from[0].namespace: Invalid"},
		{grant, "kind: ProxyRoute", "kind: ''", "spec.from[0].kind: Required"},
		{grant, "kind: Service", "kind: v1/Service", "spec.to[0].kind: Invalid"},
		{grant, "ferrum.dev", "Ferrum", "spec.from[0].group: Invalid"},
		{namespace, "name: a}", "name: a.b}", "metadata.name"},
		{namespace, "metadata:", "spec: {finalisers: []}, metadata:", `unknown field "spec.finalisers"`},
		{secret, "YQ==", "'?'", "illegal base64"},
		{secret, "name: a}", "name: a, labels: {a: 'b c'}}", "metadata.labels"},
	} {
		if !strings.Contains(c.object, c.old) {
			t.Fatalf("the valid object has no %q", c.old)
		}
		if errs := Validate([]byte(c.object)); len(errs) > 0 {
			t.Fatalf("the valid object: %v", errs)
		}
		errs := Validate([]byte(strings.Replace(c.object, c.old, c.new, 1)))
		if !slices.ContainsFunc(errs, func(err error) bool { return strings.Contains(err.Error(), c.want) }) {
			t.Errorf("%s -> %s: want %s, got %v", c.old, c.new, c.want, errs)
		}
	}
}

func TestValidateTakesOneObject(t *testing.T) {
	for manifest, want := range map[string]string{
		"":                            "0 documents",
		"a: 1\n---\nb: 2":             "2 documents",
		"- a":                         "not an object",
		"a: [":                        "line 1: ",
		"a: 1":                        "apiVersion and kind must be set",
		"{apiVersion: v1, kind: Pod}": "Pod of v1 is ignored",
	} {
		if errs := Validate([]byte(manifest)); len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%q: %v, want %s", manifest, errs, want)
		}
	}
}
