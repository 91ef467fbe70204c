package v1alpha1_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

// Specs that are accepted, and what the API server makes of them. An empty
// stored means: nothing is added.
var good = []struct {
	name, kind, spec, stored string
}{
	{
		name: "a route of one backend", kind: "ProxyRoute",
		spec:   `rules: [{backendRefs: [{name: web, port: 80}]}]`,
		stored: `rules: [{backendRefs: [{name: web, port: 80, weight: 1}]}]`,
	}, {
		name: "an empty match and empty conditions", kind: "ProxyRoute",
		spec: `
hostnames: []
rules:
- matches: [{}, {path: {}}, {path: {value: /a}}, {path: {type: Exact}}]
  backendRefs: [{name: web, port: http, weight: 3}]
- matches: [{headers: [{name: a, value: b}], queryParams: [{name: c, value: d}]}]
  backendRefs: [{name: web, port: "80", weight: 0}, {name: web, port: 81}]
  timeouts: {}
  limits: {}
  backendPolicy: {loadBalancing: {}}
`,
		stored: `
hostnames: []
rules:
- matches: [{}, {path: {type: PathPrefix, value: /}}, {path: {type: PathPrefix, value: /a}}, {path: {type: Exact, value: /}}]
  backendRefs: [{name: web, port: http, weight: 3}]
- matches: [{headers: [{name: a, type: Exact, value: b}], queryParams: [{name: c, type: Exact, value: d}]}]
  backendRefs: [{name: web, port: "80", weight: 0}, {name: web, port: 81, weight: 1}]
  timeouts: {}
  limits: {}
  backendPolicy: {loadBalancing: {type: LeastRequest}}
`,
	}, {
		name: "values at their bounds", kind: "ProxyRoute",
		spec: `
className: ferrum
hostnames: ["*.example.com", example.com, a-b.c1.example.com, localhost]
rules:
- name: a
  matches:
  - path: {type: Exact, value: "/-._~!$&'()*+,;=:@/%C3%A9%20/"}
    method: TRACE
    headers: [{name: "!#$%&'*+-.^|~aZ9", type: RegularExpression, value: "[0-9]+"}]
    queryParams: [{name: "any thing/?", type: RegularExpression, value: "a|b"}]
  - path: {type: RegularExpression, value: "[^/]+//\\.?.*#"}
  - path: {type: PathPrefix, value: /a.b/.../..c/d.}
  backendRefs: [{name: web, namespace: other, port: 1, weight: 1000000}, {name: web, port: 65535, weight: 0}]
  timeouts: {request: 1h30m5s250ms, connect: 0s, responseHeader: 1h}
  limits: {maxRequestBodyBytes: 2147483647}
- name: rule-a
  backendRefs: [{name: web, port: a-0, weight: 1}]
  timeouts: {request: 0s, connect: 99999h, responseHeader: 99999h99999m99999s99999ms}
  limits: {maxRequestBodyBytes: 999999999999999Ti}
- name: rule-00x
  backendRefs: [{name: web, port: a-0, weight: 1}]
  timeouts: {request: 3s, connect: 3000ms, responseHeader: 3s}
  limits: {maxRequestBodyBytes: "0"}
`,
	}, {
		name: "a policy", kind: "BackendPolicy",
		spec:   `{targetRefs: [{name: a}, {name: b, port: 80}, {kind: Service, name: b, port: http}], loadBalancing: {}}`,
		stored: `{targetRefs: [{kind: Service, name: a}, {kind: Service, name: b, port: 80}, {kind: Service, name: b, port: http}], loadBalancing: {type: LeastRequest}}`,
	}, {
		name: "a policy of no stanza", kind: "BackendPolicy",
		spec: `targetRefs: [{kind: Service, name: a}]`,
	}, {
		name: "a policy of stanzas without fields", kind: "BackendPolicy",
		spec:   `{targetRefs: [{name: a}], healthCheck: {active: {}, passive: {statuses: []}}, connection: {}, circuitBreaker: {perEndpoint: {}, adaptive: {}}}`,
		stored: `{targetRefs: [{kind: Service, name: a}], healthCheck: {active: {type: HTTP}, passive: {statuses: []}}, connection: {}, circuitBreaker: {perEndpoint: {}, adaptive: {}}}`,
	}, {
		name: "stanzas at their bounds", kind: "BackendPolicy",
		spec: `
targetRefs: [{kind: Service, name: a}]
loadBalancing:
  type: ConsistentHash
  consistentHash: {type: QueryParam, name: "any thing/?"}
  slowStart: {window: 0s, minWeightPercent: 100}
  topology: "Off"
healthCheck:
  active:
    type: HTTP
    interval: 100ms
    timeout: 99ms
    jitterPercent: 50
    unhealthyThreshold: 100
    healthyThreshold: 1
    port: 65535
    http: {path: "/health?a=b&c=%2f~", hostname: a-b.c1, method: OPTIONS, expectedStatuses: [{start: 100, end: 599}, {start: 100, end: 100}]}
  passive:
    consecutiveFailures: 0
    statuses: [{start: 599, end: 599}]
    failurePercent: {threshold: 0, minRequests: 1000000, window: 10m}
    baseEjectionTime: 100ms
    maxEjectionTime: 100ms
    maxEjectionPercent: 1
  panicThresholdPercent: 0
connection: {maxIdlePerEndpoint: 65535, idleTimeout: 0s, maxAge: 99999h}
circuitBreaker:
  maxConnections: 1000000
  maxParallelRequests: 0
  maxPendingRequests: 65535
  pendingTimeout: 0s
  perEndpoint: {maxParallelRequests: 1000000}
  adaptive: {minParallelRequests: 1000, maxParallelRequests: 1000}
retryBudget: {percent: 0, interval: 1h, minRetryRate: {count: 0, interval: 100ms}}
`,
	}, {
		name: "the other kinds of checks and keys", kind: "ProxyRoute",
		spec: `
rules:
- backendRefs: [{name: web, port: 80, weight: 1}]
  filters:
  - {type: RateLimit, rateLimit: {requests: 1000000, period: 24h, burst: 1, key: {type: Cookie, name: "a.b_c|d~"}, dryRun: true}}
  - {type: RateLimit, rateLimit: {requests: 1, period: 1s, burst: 1000000, key: {type: Route}, scope: Cluster}}
  - {type: RateLimit, rateLimit: {requests: 1}}
  onNoEndpoints: Rebalance
  sessionPersistence: {type: Cookie, sessionName: "__Host-a.b~", absoluteTimeout: 0s}
  timeouts: {request: 1s, connect: 0s, responseHeader: 0s, requestBodyIdle: 0s, responseBodyIdle: 5m, streamIdle: 99999h}
  limits: {maxResponseBodyBytes: 2Ti, minRequestBodyRate: 1000000000, maxInFlight: 1000000}
  retry: {attempts: 10, codes: [400, 599], conditions: [ConnectFailure, Reset, Codes], methods: Any, totalTimeout: 0s, backoff: 0s, maxBackoff: 0s, maxBodyBytes: 1Gi, honorRetryAfter: false, hedgeAfter: 1h}
  backendPolicy:
    loadBalancing: {type: ConsistentHash, consistentHash: {type: SourceIP}}
    healthCheck: {active: {type: TCP, interval: 1h, timeout: 59m}}
- backendRefs: [{name: web, port: 80, weight: 1}]
  sessionPersistence: {type: Cookie}
  backendPolicy:
    loadBalancing: {type: ConsistentHash, consistentHash: {type: Cookie, name: "a.b_c|d~"}}
    healthCheck: {active: {type: GRPC, grpc: {service: "shop.v1.Api/x"}}}
- backendRefs: [{name: web, port: 80, weight: 1}]
  retry: {codes: [], conditions: [], hedgeAfter: 999ms}
  timeouts: {request: 1s, connect: 0s, responseHeader: 1s, backendRequest: 1000ms}
  backendPolicy:
    healthCheck: {active: {type: GRPC, grpc: {}}, passive: {}}
    retryBudget: {}
`,
	}, {
		name: "an empty class", kind: "ProxyClass",
		spec: `{}`,
	}, {
		name: "a class with grants and defaults", kind: "ProxyClass",
		spec: `
allowedRoutes:
- {}
- namespaces: {}
  hostnames: ["*", "*.example.com", example.com]
- namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}
defaults:
  timeouts: {connect: 1s}
  limits: {maxRequestBodyBytes: 1Gi}
  backendPolicy: {loadBalancing: {type: RoundRobin}}
`,
		stored: `
allowedRoutes:
- {}
- namespaces: {from: All}
  hostnames: ["*", "*.example.com", example.com]
- namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}
defaults:
  timeouts: {connect: 1s}
  limits: {maxRequestBodyBytes: 1Gi}
  backendPolicy: {loadBalancing: {type: RoundRobin}}
`,
	},
}

func TestGoodObjectsAreAcceptedWithTheirDefaults(t *testing.T) {
	c := kubetest.Shared(t).Client(t)
	for _, o := range good {
		t.Run(o.name, func(t *testing.T) {
			sent := object(t, o.kind, "", nil)
			sent.Object["spec"] = parse(t, o.spec)
			if err := c.Create(t.Context(), sent, client.FieldValidation("Strict")); err != nil {
				t.Fatal(err)
			}
			want := o.stored
			if want == "" {
				want = o.spec
			}
			if diff := cmp.Diff(parse(t, want), sent.Object["spec"]); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			roundTrip(t, c, sent)
		})
	}
}

// roundTrip reads the object as its Go type and expects that this type knows
// every field and loses no value.
func roundTrip(t *testing.T, c client.Client, stored *unstructured.Unstructured) {
	t.Helper()
	typed := map[string]client.Object{
		"ProxyRoute": &v1alpha1.ProxyRoute{}, "BackendPolicy": &v1alpha1.BackendPolicy{}, "ProxyClass": &v1alpha1.ProxyClass{},
	}[stored.GetKind()]
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(stored), typed); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(typed)
	if err != nil {
		t.Fatal(err)
	}
	var back struct{ Spec any }
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(stored.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	// Go writes an empty list as absent; they mean the same everywhere.
	spec := parse(t, strings.Replace(string(want), `"hostnames":[],`, "", 1))
	if diff := cmp.Diff(spec, parse(t, marshal(t, back.Spec))); diff != "" {
		t.Errorf("through the Go type (-want +got):\n%s", diff)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// parse returns a YAML value with numbers as the unstructured client has them.
func parse(t *testing.T, text string) any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var u unstructured.Unstructured
	wrapped := `{"apiVersion":"v1","kind":"X","spec":` + string(data) + `}`
	if err := u.UnmarshalJSON([]byte(wrapped)); err != nil {
		t.Fatal(err)
	}
	return u.Object["spec"]
}

// A misspelled field is an error to a client that asks for strictness, as
// kubectl does, and not silently a field without effect.
func TestUnknownFieldIsRefused(t *testing.T) {
	c := kubetest.Shared(t).Client(t)
	o := object(t, "ProxyRoute", "rules.0.timeouts.requets", "1s")
	err := c.Create(t.Context(), o, client.FieldValidation("Strict"))
	if err == nil || !strings.Contains(err.Error(), `unknown field "spec.rules[0].timeouts.requets"`) {
		t.Errorf("error %v, want one that names the field", err)
	}
}

func TestKindsHaveTheirShortNamesAndColumns(t *testing.T) {
	s := kubetest.Shared(t)
	d, err := discovery.NewDiscoveryClientForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	resources, err := d.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		resource, short string
		namespaced      bool
		columns         []string // after Name; * marks those of -o wide
	}{
		{"proxyroutes", "pr", true, []string{"Hostnames", "Class*", "Accepted", "Resolved", "Programmed", "Serving", "Replicas", "Healthy", "Conflicted*", "Age"}},
		{"backendpolicies", "bpol", true, []string{"Targets", "Accepted", "Conflicted", "Age"}},
		{"proxyclasses", "pclass", false, []string{"Default", "Accepted", "Age"}},
	} {
		i := slices.IndexFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == want.resource })
		if i < 0 {
			t.Errorf("no resource %s", want.resource)
			continue
		}
		r := resources.APIResources[i]
		if !slices.Equal(r.ShortNames, []string{want.short}) || !slices.Equal(r.Categories, []string{"ferrum"}) || r.Namespaced != want.namespaced {
			t.Errorf("%s: short names %q, categories %q, namespaced %t", r.Name, r.ShortNames, r.Categories, r.Namespaced)
		}
		if got := columns(t, d, want.resource); !slices.Equal(got, want.columns) {
			t.Errorf("%s: columns %q, want %q", want.resource, got, want.columns)
		}
		hasStatus := slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == want.resource+"/status" })
		if !hasStatus {
			t.Errorf("%s has no status subresource", want.resource)
		}
	}
}

// columns asks for the table that kubectl prints.
func columns(t *testing.T, d *discovery.DiscoveryClient, resource string) []string {
	t.Helper()
	var table metav1.Table
	data, err := d.RESTClient().Get().AbsPath("/apis", v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, resource).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, column := range table.ColumnDefinitions {
		name := column.Name
		if column.Priority > 0 {
			name += "*"
		}
		if name != "Name" {
			names = append(names, name)
		}
	}
	return names
}
