package translate

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// Each case of testdata is a txtar archive: input.yaml holds the objects,
// plan.txt and status.txt what they mean. An input.yaml that begins with
// "# manifests" is built as `ferrum run --manifests` does, one that begins with
// "# zone Z node N" as a process there does.
func TestGoldenCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			snapshot := readSnapshot(t, section(archive, "input.yaml"))
			result := Build(snapshot)
			checkOrderDoesNotMatter(t, snapshot, result)
			checkMessages(t, result)

			got := map[string][]byte{"plan.txt": writePlan(result), "status.txt": writeStatus(result)}
			if *update {
				setSections(archive, got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for name, content := range got {
				if diff := cmp.Diff(string(section(archive, name)), string(content)); diff != "" {
					t.Errorf("%s differs (-want +got); after a look, go test -update rewrites it:\n%s", name, diff)
				}
			}
		})
	}
}

func section(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func setSections(a *txtar.Archive, content map[string][]byte) {
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool {
		_, ok := content[f.Name]
		return ok
	})
	for _, name := range []string{"plan.txt", "status.txt"} {
		a.Files = append(a.Files, txtar.File{Name: name, Data: content[name]})
	}
}

// checkOrderDoesNotMatter builds from the same objects in other orders.
func checkOrderDoesNotMatter(t *testing.T, s Snapshot, want Result) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		shuffled := shuffle(rng, s)
		if got := Build(shuffled); !reflect.DeepEqual(got, want) {
			t.Fatalf("the order of the objects matters:\n%s", cmp.Diff(want, got))
		}
	}
}

func shuffle(rng *rand.Rand, s Snapshot) Snapshot {
	s.Routes = shuffled(rng, s.Routes)
	s.Policies = shuffled(rng, s.Policies)
	s.Classes = shuffled(rng, s.Classes)
	s.Services = shuffled(rng, s.Services)
	s.EndpointSlices = shuffled(rng, s.EndpointSlices)
	s.Namespaces = shuffled(rng, s.Namespaces)
	s.Grants = shuffled(rng, s.Grants)
	return s
}

func shuffled[T any](rng *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// checkMessages holds every condition to what the API server accepts.
func checkMessages(t *testing.T, r Result) {
	t.Helper()
	check := func(who string, v Verdict) {
		for _, c := range v.Conditions {
			switch {
			case c.Type == "" || c.Status == "" || c.Message == "" || len(c.Message) > maxMessage:
				t.Errorf("%s: bad condition %+v", who, c)
			case !reasonPattern.MatchString(c.Reason):
				t.Errorf("%s: reason %q is not one that a condition may have", who, c.Reason)
			}
		}
	}
	for n, v := range r.Verdicts.Routes {
		check(n.String(), v.Verdict)
		if v.Served != (v.Condition(v1alpha1.ConditionAccepted).Status == metav1.ConditionTrue) {
			t.Errorf("%s: Served = %v contradicts Accepted", n, v.Served)
		}
	}
	for n, v := range r.Verdicts.Policies {
		check(n.String(), v)
	}
	for n, v := range r.Verdicts.Classes {
		check(n, v)
	}
}

var reasonPattern = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

// atPattern says where the process of a case runs.
var atPattern = regexp.MustCompile(`^# zone (\S*) node (\S*)\n`)

// readSnapshot decodes the documents of a case strictly, but applies neither
// the defaults nor the rules of the schema: Build must cope with what an older
// schema let through.
func readSnapshot(t testing.TB, input []byte) Snapshot {
	t.Helper()
	s := Snapshot{AllowLocalEndpoints: bytes.HasPrefix(input, []byte("# manifests"))}
	if at := atPattern.FindSubmatch(input); at != nil {
		s.Zone, s.Node = string(at[1]), string(at[2])
	}
	for _, doc := range bytes.Split(input, []byte("\n---\n")) {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		switch head.Kind {
		case "ProxyRoute":
			s.Routes = append(s.Routes, decode[v1alpha1.ProxyRoute](t, doc))
		case "BackendPolicy":
			s.Policies = append(s.Policies, decode[v1alpha1.BackendPolicy](t, doc))
		case "ProxyClass":
			s.Classes = append(s.Classes, decode[v1alpha1.ProxyClass](t, doc))
		case "Service":
			s.Services = append(s.Services, decode[corev1.Service](t, doc))
		case "EndpointSlice":
			s.EndpointSlices = append(s.EndpointSlices, decode[discoveryv1.EndpointSlice](t, doc))
		case "Namespace":
			s.Namespaces = append(s.Namespaces, decode[corev1.Namespace](t, doc))
		case "ReferenceGrant":
			s.Grants = append(s.Grants, decode[gatewayv1.ReferenceGrant](t, doc))
		default:
			t.Fatalf("unknown kind %q in\n%s", head.Kind, doc)
		}
	}
	return s
}

func decode[T any](t testing.TB, doc []byte) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	return o
}

// writePlan shows a plan to people; of timeouts, limits and policies what is
// not built in.
func writePlan(r Result) []byte {
	var b bytes.Buffer
	for _, route := range r.Plan.Routes {
		fmt.Fprintf(&b, "route %s/%s on %s\n", route.Namespace, route.Name, strings.Join(route.Hostnames, " "))
		for i := range route.Rules {
			writeRule(&b, &route.Rules[i])
		}
	}
	for _, p := range r.Plan.Pools {
		fmt.Fprintf(&b, "pool %s\n", poolWords(p.Key))
		for _, e := range p.Endpoints {
			far := ""
			if e.Far {
				far = " far"
			}
			fmt.Fprintf(&b, "  %s %s%s\n", e.Addr, e.State, far)
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.Bytes()
}

func writeRule(b *bytes.Buffer, r *plan.Rule) {
	fmt.Fprintf(b, "  rule %s\n", r.Name)
	for _, m := range r.Matches {
		fmt.Fprintf(b, "    match %s\n", matchWords(m))
	}
	if r.Timeouts != builtInTimeouts {
		fmt.Fprintf(b, "    timeouts%s\n", differences(reflect.ValueOf(builtInTimeouts), reflect.ValueOf(r.Timeouts), ""))
	}
	if (r.Retry != plan.Retry{}) {
		fmt.Fprintf(b, "    retry%s\n", differences(reflect.ValueOf(builtInRetry), reflect.ValueOf(r.Retry), ""))
	}
	if r.Limits != builtInLimits {
		fmt.Fprintf(b, "    limits%s\n", differences(reflect.ValueOf(builtInLimits), reflect.ValueOf(r.Limits), ""))
	}
	for _, f := range r.Filters {
		fmt.Fprintf(b, "    filter%s\n", differences(reflect.ValueOf(plan.Filter{}), reflect.ValueOf(f), ""))
	}
	if r.Rebalance {
		fmt.Fprintf(b, "    rebalance\n")
	}
	if r.Session != (plan.Session{}) {
		fmt.Fprintf(b, "    session cookie=%s lifetime=%s key=%x\n", r.Session.Cookie, r.Session.Lifetime, r.Session.Key[:4])
	}
	for _, l := range r.Legs {
		if l.Invalid != "" {
			fmt.Fprintf(b, "    leg weight %d: 500 %s\n", l.Weight, l.Invalid)
			continue
		}
		fmt.Fprintf(b, "    leg weight %d: %s\n", l.Weight, poolWords(l.Pool))
	}
	if r.Invalid != "" {
		fmt.Fprintf(b, "    500 %s\n", r.Invalid)
	}
}

// poolWords shows a key to people; of its policy, besides the balancer, what is
// not built in.
func poolWords(k plan.PoolKey) string {
	builtIn := builtInPolicy
	builtIn.LoadBalancing.Balancer = k.Policy.LoadBalancing.Balancer
	return fmt.Sprintf("%s/%s:%d %s%s", k.Namespace, k.Service, k.Port, k.Policy.LoadBalancing.Balancer,
		differences(reflect.ValueOf(builtIn), reflect.ValueOf(k.Policy), ""))
}

// differences shows the fields in which b differs from a, as in " Active.Port=81".
func differences(a, b reflect.Value, path string) string {
	if set, ok := b.Interface().(plan.StatusSet); ok && a.Interface() != b.Interface() {
		return fmt.Sprintf(" %s=%s", path, statusWords(set))
	}
	if b.Kind() != reflect.Struct {
		if a.Interface() == b.Interface() {
			return ""
		}
		return fmt.Sprintf(" %s=%v", path, b.Interface())
	}
	out := ""
	for i := range b.NumField() {
		out += differences(a.Field(i), b.Field(i), strings.TrimPrefix(path+"."+b.Type().Field(i).Name, "."))
	}
	return out
}

// statusWords shows a set of statuses as ranges.
func statusWords(s plan.StatusSet) string {
	var ranges []string
	for code := 0; code < 640; code++ {
		start := code
		for s.Has(code) {
			code++
		}
		if code > start {
			ranges = append(ranges, fmt.Sprintf("%d-%d", start, code-1))
		}
	}
	return "[" + strings.Join(ranges, " ") + "]"
}

// writeStatus shows verdicts to people, one object after the other.
func writeStatus(r Result) []byte {
	var all []string
	for n, v := range r.Verdicts.Classes {
		all = append(all, objectWords("ProxyClass "+n, v, ""))
	}
	for n, v := range r.Verdicts.Policies {
		all = append(all, objectWords("BackendPolicy "+n.String(), v, ""))
	}
	for n, v := range r.Verdicts.Routes {
		extra := ", not served"
		if v.Served {
			extra = fmt.Sprintf(", served on [%s]", strings.Join(v.Hostnames, " "))
		} else if len(v.Hostnames) > 0 {
			extra = fmt.Sprintf(", not served but on %q", v.Hostnames)
		}
		all = append(all, objectWords("ProxyRoute "+n.String(), v.Verdict, extra))
	}
	slices.Sort(all)
	return []byte(strings.Join(all, ""))
}

func objectWords(object string, v Verdict, extra string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: generation %d%s\n", object, v.Generation, extra)
	for _, c := range v.Conditions {
		fmt.Fprintf(&b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return b.String()
}
