package v1alpha1_test

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/config/crd"
	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	kubetest.Main(m)
}

// The objects that the bad cases are made from: each field that has a bound is
// there, with a good value.
var base = map[string]string{
	"ProxyRoute": `
className: ferrum
hostnames: [shop.example.com]
rules:
- name: api
  matches:
  - path: {type: PathPrefix, value: /api}
    method: GET
    headers: [{name: x-canary, type: Exact, value: "1"}]
    queryParams: [{name: v, type: Exact, value: "2"}]
  backendRefs: [{name: api, namespace: shop, port: 8080, weight: 1}]
  filters: [{type: RateLimit, rateLimit: {requests: 10, period: 1m, burst: 5, key: {type: Header, name: x-user}}}]
  onNoEndpoints: Reject
  sessionPersistence: {type: Cookie, sessionName: shop, absoluteTimeout: 1h}
  timeouts: {}
  retry: {codes: [503], conditions: [Codes]}
  limits: {}
  backendPolicy:
    loadBalancing: {type: ConsistentHash, consistentHash: {type: Header, name: x-user}, slowStart: {window: 30s, minWeightPercent: 10}, topology: PreferClose}
    healthCheck:
      active:
        type: HTTP
        interval: 10s
        timeout: 5s
        http: {path: /health, hostname: api.internal, method: GET, expectedStatuses: [{start: 200, end: 399}]}
      passive:
        statuses: [{start: 502, end: 504}]
        failurePercent: {threshold: 50, window: 10s}
    connection: {}
    circuitBreaker: {perEndpoint: {}, adaptive: {}}
    retryBudget: {minRetryRate: {}}
    drain: {}
`,
	"BackendPolicy": `
targetRefs: [{kind: Service, name: api, port: http}]
loadBalancing: {type: ConsistentHash, consistentHash: {type: Header, name: x-user}, slowStart: {window: 30s, minWeightPercent: 10}, topology: PreferClose}
healthCheck:
  active:
    type: HTTP
    interval: 10s
    timeout: 5s
    http: {path: /health, hostname: api.internal, method: GET, expectedStatuses: [{start: 200, end: 399}]}
  passive:
    statuses: [{start: 502, end: 504}]
    failurePercent: {threshold: 50, window: 10s}
connection: {}
circuitBreaker: {perEndpoint: {}, adaptive: {}}
retryBudget: {minRetryRate: {}}
drain: {}
`,
	"ProxyClass": `
allowedRoutes:
- namespaces: {from: Selector, selector: {matchLabels: {team: a}}}
  hostnames: ["*.example.com"]
defaults:
  timeouts: {}
  retry: {codes: [503], conditions: [Codes]}
  limits: {}
  backendPolicy:
    loadBalancing: {type: ConsistentHash, consistentHash: {type: Header, name: x-user}, slowStart: {window: 30s, minWeightPercent: 10}, topology: PreferClose}
    healthCheck:
      active:
        type: HTTP
        interval: 10s
        timeout: 5s
        http: {path: /health, hostname: api.internal, method: GET, expectedStatuses: [{start: 200, end: 399}]}
      passive:
        statuses: [{start: 502, end: 504}]
        failurePercent: {threshold: 50, window: 10s}
    connection: {}
    circuitBreaker: {perEndpoint: {}, adaptive: {}}
    retryBudget: {minRetryRate: {}}
    drain: {}
`,
}

// object returns the base object of a kind with a value set at a path of its
// spec ("rules.0.name"). unset removes what is there.
func object(t *testing.T, kind, path string, value any) *unstructured.Unstructured {
	t.Helper()
	var spec any
	if err := yaml.Unmarshal([]byte(base[kind]), &spec); err != nil {
		t.Fatal(err)
	}
	if path != "" {
		spec = with(t, spec, strings.Split(path, "."), value)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetAPIVersion("ferrum.dev/v1alpha1")
	o.SetKind(kind)
	o.SetGenerateName("validation-")
	if kind != "ProxyClass" {
		o.SetNamespace("default")
	}
	return o
}

type unset struct{}

// with returns node with the value at the path replaced.
func with(t *testing.T, node any, path []string, value any) any {
	t.Helper()
	if len(path) == 0 {
		return value
	}
	switch node := node.(type) {
	case map[string]any:
		if _, remove := value.(unset); remove && len(path) == 1 {
			delete(node, path[0])
		} else {
			node[path[0]] = with(t, node[path[0]], path[1:], value)
		}
		return node
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(node) {
			t.Fatalf("no element %s in a list of %d", path[0], len(node))
		}
		node[i] = with(t, node[i], path[1:], value)
		return node
	default:
		t.Fatalf("the path goes on with %q below a %T", path, node)
		return nil
	}
}

// causes sends an object to the API server without keeping it and returns what
// the server has against it, each as "field: message".
func causes(t *testing.T, c client.Client, o *unstructured.Unstructured) []string {
	t.Helper()
	err := c.Create(t.Context(), o, client.DryRunAll)
	if err == nil {
		return nil
	}
	var status *apierrors.StatusError
	if !errors.As(err, &status) || status.ErrStatus.Details == nil {
		t.Fatalf("not an answer of validation: %v", err)
	}
	var found []string
	for _, cause := range status.ErrStatus.Details.Causes {
		found = append(found, cause.Field+": "+cause.Message)
	}
	return found
}

// say says whether one of the causes is about the field and ends with the
// message. Before it the server repeats the bad value, and the field when the
// message is one of the schema ("in body ...").
func say(found []string, field, message string) bool {
	return slices.ContainsFunc(found, func(s string) bool {
		s, ok := strings.CutPrefix(s, field+": ")
		return ok && (s == message || strings.HasSuffix(s, ": "+message) || strings.HasSuffix(s, ": "+field+" "+message))
	})
}

func TestEachBadObjectIsRefusedWithItsMessage(t *testing.T) {
	c := kubetest.Shared(t).Client(t)
	for kind := range base {
		if found := causes(t, c, object(t, kind, "", nil)); found != nil {
			t.Fatalf("the good %s is refused: %q", kind, found)
		}
	}
	for _, bad := range badObjects() {
		value := fmt.Sprint(bad.value)
		t.Run(fmt.Sprintf("%s %s %s", bad.kind, bad.path, value[:min(len(value), 40)]), func(t *testing.T) {
			found := causes(t, c, object(t, bad.kind, bad.path, bad.value))
			if !say(found, bad.field, bad.message) {
				t.Errorf("want\n\t%s: ...: %s\ngot\n\t%s", bad.field, bad.message, strings.Join(found, "\n\t"))
			}
		})
	}
}

// Each bound and rule that is added to the types needs its case.
func TestEachBoundAndRuleHasItsBadObject(t *testing.T) {
	covered := map[string]bool{}
	for _, bad := range badObjects() {
		covered[bad.kind+" "+index.ReplaceAllString(bad.field, "[]")+" "+class(bad.message)] = true
	}
	for kind, spec := range specSchemas(t) {
		walk(spec, "spec", func(path, bound string) {
			if !covered[kind+" "+path+" "+bound] {
				t.Errorf("no bad object for %s %s %s", kind, path, bound)
			}
		})
	}
}

var index = regexp.MustCompile(`\[[^]]*\]`)

func specSchemas(t *testing.T) map[string]apiextensionsv1.JSONSchemaProps {
	t.Helper()
	files, err := fs.Glob(crd.FS, "bases/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	specs := map[string]apiextensionsv1.JSONSchemaProps{}
	for _, file := range files {
		data, err := crd.FS.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var def apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &def); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		specs[def.Spec.Names.Kind] = def.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	}
	if len(specs) != len(base) {
		t.Fatalf("%d kinds have definitions, %d a base object", len(specs), len(base))
	}
	return specs
}

// walk calls visit for each bound of a schema, with the class of the message
// that breaking it gives.
func walk(s apiextensionsv1.JSONSchemaProps, path string, visit func(path, bound string)) {
	for _, bound := range []struct {
		name string
		set  bool
	}{
		{"pattern", s.Pattern != ""},
		{"min length", s.MinLength != nil},
		{"max length", s.MaxLength != nil},
		{"min items", s.MinItems != nil},
		{"max items", s.MaxItems != nil},
		{"minimum", s.Minimum != nil},
		{"maximum", s.Maximum != nil},
		{"enum", len(s.Enum) > 0},
	} {
		if bound.set {
			visit(path, bound.name)
		}
	}
	for _, rule := range s.XValidations {
		visit(path, rule.Message)
	}
	if s.Items != nil {
		if list := s.XListType; list != nil && *list != "atomic" {
			visit(path+"[]", "duplicate")
		}
		walk(*s.Items.Schema, path+"[]", visit)
	}
	for name, property := range s.Properties {
		if name == "matchLabels" || name == "matchExpressions" {
			continue // Kubernetes' own type; its errors come as a condition
		}
		if slices.Contains(s.Required, name) {
			visit(path+"."+name, "required")
		}
		walk(property, path+"."+name, visit)
	}
}

// class names the schema keyword that a message of the API server is about. The
// message of a CEL rule is its own class.
func class(message string) string {
	for _, c := range []struct{ name, pattern string }{
		{"pattern", `should match '`},
		{"min length", `should be at least \d+ chars long$`},
		{"max length", `may not be more than \d+ bytes$|should be at most \d+ chars long$`},
		{"min items", `should have at least \d+ items$`},
		{"max items", `must have at most \d+ items$`},
		{"minimum", `should be greater than or equal to`},
		{"maximum", `should be less than or equal to`},
		{"enum", `^supported values: `},
		{"duplicate", `^Duplicate value`},
		{"required", `^Required value$`},
	} {
		if regexp.MustCompile(c.pattern).MatchString(message) {
			return c.name
		}
	}
	return message
}
