package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// rule says what the packages at a path may import.
type rule struct {
	// path of the package in this module; one that ends in "/..." stands for
	// the package and everything below it. The longest path that fits counts.
	path string
	// local packages that may be imported directly, written like path.
	local []string
	// external modules or packages that may be imported directly, as prefixes
	// by path element; "*" = any. The standard library always may.
	external []string
}

// The arrows of the architecture, pointing down. A package that is not here has
// no place in the architecture yet: decide on one and write it down.
var rules = []rule{
	{path: "api/v1alpha1", external: []string{"k8s.io/apimachinery"}},
	{path: "config/crd"},

	{path: "dataplane/plan"},
	{path: "dataplane/route", local: []string{"dataplane/plan"}},
	{path: "dataplane/limit", local: []string{"dataplane/plan"}},
	{path: "dataplane/limit/shared", local: []string{"dataplane/limit"}, external: []string{"github.com/go-logr/logr", "github.com/redis/go-redis/v9"}},
	{path: "dataplane/limit/shared/redistest"},
	{path: "dataplane/retry", local: []string{"dataplane/plan", "dataplane/limit"}}, // limit for the floor of a budget, a token bucket
	{path: "dataplane/http1", local: []string{"dataplane/route"}, external: []string{"golang.org/x/sys/unix"}},
	{path: "dataplane/upstream", local: []string{"dataplane/plan", "dataplane/limit", "dataplane/http1", "dataplane/retry"},
		external: []string{"github.com/cespare/xxhash/v2", "google.golang.org/protobuf/encoding/protowire"}},
	{path: "dataplane/proxy", local: []string{"dataplane/plan", "dataplane/route", "dataplane/upstream", "dataplane/http1", "dataplane/retry", "dataplane/limit"}, external: []string{"github.com/go-logr/logr"}},
	{path: "dataplane/proxyproto"},
	{path: "dataplane/server", local: []string{"dataplane/proxy", "dataplane/internal/tcp", "dataplane/http1", "dataplane/proxyproto"},
		external: []string{"github.com/go-logr/logr", "golang.org/x/sys/unix"}},
	{path: "dataplane/telemetry", local: []string{"dataplane/plan", "dataplane/proxy", "dataplane/retry"}, external: []string{"github.com/prometheus", "github.com/go-logr/logr"}},
	{path: "dataplane/admin", local: []string{"dataplane/plan", "dataplane/proxy"}, external: []string{"github.com/go-logr/logr"}},
	{path: "dataplane/internal/memnet"},
	{path: "dataplane/internal/tcp", external: []string{"golang.org/x/sys/unix"}},
	{path: "dataplane", local: []string{"dataplane/..."}, external: []string{"github.com/go-logr/logr"}},

	{path: "controllers/translate", local: []string{"api/...", "dataplane/plan", "dataplane/route"}, external: []string{"k8s.io", "sigs.k8s.io"}},
	{path: "controllers/manifests", local: []string{"api/...", "config/crd", "controllers/translate"},
		external: []string{"k8s.io", "sigs.k8s.io", "github.com/fsnotify/fsnotify", "go.yaml.in/yaml/v3"}},
	{path: "controllers/planfile", local: []string{"dataplane/plan"}},
	{path: "controllers", local: []string{"api/...", "dataplane/plan", "controllers/translate"},
		external: []string{"k8s.io", "sigs.k8s.io", "github.com/go-logr/logr", "github.com/prometheus/client_golang"}},

	// The wiring and what stands outside the product may know everything in it.
	{path: "cmd/...", local: []string{"..."}, external: []string{"*"}},
	{path: "hack/...", local: []string{"..."}, external: []string{"*"}},
}

// neverAbove are packages that only those on the left of "<-" may import.
var neverAbove = []rule{
	{path: "hack/...", local: []string{"hack/..."}},
	{path: "cmd/..."},
	{path: "dataplane/internal/memnet"}, // for tests, which this test does not see
	{path: "dataplane/limit/shared/redistest"},
}

// banned are prefixes that must not be reached at all, not even through others.
var banned = []struct {
	from, prefix, why string
}{
	{"dataplane/...", "k8s.io", "the data plane knows nothing of Kubernetes: it is fed a plan"},
	{"dataplane/...", "sigs.k8s.io", "the data plane knows nothing of Kubernetes: it is fed a plan"},
	{"controllers/...", module + "/dataplane/proxy", "the controllers know the plan and one method, Apply"},
	{"dataplane/proxy", "github.com/prometheus", "only telemetry knows Prometheus"},
	{"dataplane/upstream", "github.com/prometheus", "only telemetry knows Prometheus"},
	{"dataplane/server", "github.com/prometheus", "only telemetry knows Prometheus"},
	{"dataplane/admin", "github.com/prometheus", "only telemetry knows Prometheus: admin serves its handler"},
	{"dataplane/proxy", "github.com/redis", "only dataplane/limit/shared knows Redis"},
	{"controllers/...", "github.com/redis", "only dataplane/limit/shared knows Redis"},
	{"api/...", "sigs.k8s.io/controller-runtime", "users import the API; it must stay light"},
}

func TestDependencyRules(t *testing.T) {
	all := packages(t)
	for _, importPath := range slices.Sorted(maps.Keys(all)) {
		path, ok := local(importPath)
		if !ok {
			continue
		}
		for _, problem := range violations(path, all[importPath], all) {
			t.Error(problem)
		}
	}
}

func TestDependencyRulesNameOnlyPackagesThatExist(t *testing.T) {
	all := packages(t)
	for _, r := range slices.Concat(rules, neverAbove) {
		for _, pattern := range append([]string{r.path}, r.local...) {
			if !existsLike(all, pattern) {
				t.Errorf("a rule speaks of %s, which does not exist", pattern)
			}
		}
	}
}

func TestDependencyRulesCatchWhatTheyForbid(t *testing.T) {
	all := map[string]*goPackage{
		"fmt":                         {Standard: true},
		"k8s.io/api/core/v1":          {},
		"example.com/x":               {},
		module + "/cmd/ferrum":        {},
		module + "/dataplane/proxy":   {},
		module + "/dataplane/plan":    {},
		module + "/dataplane/route":   {},
		module + "/hack/arch":         {},
		module + "/dataplane/routex":  {},
		module + "/dataplane/unknown": {},
	}
	for _, c := range []struct {
		path    string
		imports []string
		deps    []string
		want    string
	}{
		{path: "dataplane/route", imports: []string{"fmt", module + "/dataplane/plan"}, want: ""},
		{path: "dataplane/plan", imports: []string{module + "/dataplane/route"}, want: "must not import dataplane/route"},
		{path: "dataplane/route", imports: []string{"example.com/x"}, want: "must not import example.com/x"},
		{path: "dataplane/http1", deps: []string{"k8s.io/api/core/v1"}, want: "reaches k8s.io/api/core/v1"},
		{path: "dataplane", imports: []string{module + "/cmd/ferrum"}, want: "must not import cmd/ferrum"},
		{path: "cmd/ferrum", imports: []string{module + "/hack/arch"}, want: "must not import hack/arch"},
		{path: "controllers/translate", deps: []string{module + "/dataplane/proxy"}, want: "reaches " + module + "/dataplane/proxy"},
		{path: "dataplane/unknown", want: "has no rule"},
	} {
		got := strings.Join(violations(c.path, &goPackage{Imports: c.imports, Deps: c.deps}, all), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s importing %v (reaching %v): got %q, want %q", c.path, c.imports, c.deps, got, c.want)
		}
	}
}

// violations lists what a package does against the rules.
func violations(path string, p *goPackage, all map[string]*goPackage) (problems []string) {
	r := ruleFor(path)
	if r == nil {
		return []string{path + " has no rule in hack/arch: say what it may import"}
	}
	for _, imported := range p.Imports {
		if q := all[imported]; q == nil || q.Standard {
			continue // "C" and "unsafe" are not listed
		}
		if to, ok := local(imported); ok {
			if !fitsAny(r.local, to) || !allowedAbove(path, to) {
				problems = append(problems, fmt.Sprintf("%s must not import %s", path, to))
			}
		} else if !hasAnyPrefix(r.external, imported) {
			problems = append(problems, fmt.Sprintf("%s must not import %s", path, imported))
		}
	}
	for _, b := range banned {
		if !fits(b.from, path) {
			continue
		}
		for _, d := range p.Deps {
			if hasPrefix(b.prefix, d) {
				problems = append(problems, fmt.Sprintf("%s reaches %s: %s", path, d, b.why))
			}
		}
	}
	return problems
}

// ruleFor returns the rule with the longest path that fits.
func ruleFor(path string) *rule {
	var best *rule
	for i := range rules {
		if fits(rules[i].path, path) && (best == nil || len(rules[i].path) > len(best.path)) {
			best = &rules[i]
		}
	}
	return best
}

func allowedAbove(from, to string) bool {
	for _, r := range neverAbove {
		if fits(r.path, to) && !fitsAny(r.local, from) {
			return false
		}
	}
	return true
}

// fits reports whether a path is what a pattern stands for.
func fits(pattern, path string) bool {
	below, wild := strings.CutSuffix(pattern, "...")
	below = strings.TrimSuffix(below, "/")
	return path == below || wild && hasPrefix(below, path)
}

func fitsAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(p, path) })
}

// hasPrefix compares by path element; "" and "*" are prefixes of everything.
func hasPrefix(prefix, path string) bool {
	return prefix == "" || prefix == "*" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

func hasAnyPrefix(prefixes []string, path string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return hasPrefix(p, path) })
}

func existsLike(all map[string]*goPackage, pattern string) bool {
	for importPath := range all {
		if path, ok := local(importPath); ok && fits(pattern, path) {
			return true
		}
	}
	return false
}
