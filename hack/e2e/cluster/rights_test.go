//go:build cluster

package cluster

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// grant is what an account may do: verbs, sorted, by resource. A right that is
// limited to a name is that of resource/name.
type grant map[string]string

// and returns both.
func (g grant) and(more grant) grant {
	both := maps.Clone(g)
	maps.Copy(both, more)
	return both
}

const reads = "get list watch"

// everywhere is what the account of a release may do in any mode in any namespace,
// and to what is in none.
var everywhere = grant{"namespaces": reads, "proxyclasses.ferrum.dev": reads, "proxyclasses.ferrum.dev/status": "patch"}

// watched is what it may do besides in a namespace whose objects count.
var watched = grant{
	"services": reads, "endpointslices.discovery.k8s.io": reads, "referencegrants.gateway.networking.k8s.io": reads,
	"proxyroutes.ferrum.dev": reads, "backendpolicies.ferrum.dev": reads,
	"proxyroutes.ferrum.dev/status": "patch", "backendpolicies.ferrum.dev/status": "patch",
	"events.events.k8s.io": "create patch",
}

// home is what it may do besides in the namespace of the release.
func home(lease string) grant {
	return grant{"leases.coordination.k8s.io": "create", "leases.coordination.k8s.io/" + lease: "get update"}
}

func rights(t *testing.T) {
	mayOnly(t, namespace+":ferrum-ferrum-proxy", func(where string) grant {
		if where == namespace {
			return everywhere.and(watched).and(home("ferrum-ferrum-proxy-status-writer"))
		}
		return everywhere.and(watched)
	})
}

// mayOnly compares what a service account (NAMESPACE:NAME) may do in each namespace
// of the cluster with what it is meant to.
func mayOnly(t *testing.T, account string, want func(namespace string) grant) {
	t.Helper()
	for where := range strings.FieldsSeq(kubectl(t, "get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}")) {
		list := kubectl(t, "auth", "can-i", "--as=system:serviceaccount:"+account, "--list", "-n", where)
		got, want := granted(list), want(where)
		for _, resource := range slices.Sorted(maps.Keys(got.and(want))) {
			if got[resource] != want[resource] {
				t.Errorf("in %s %s may do %q to %s, want %q", where, account, got[resource], resource, want[resource])
			}
		}
	}
}

var bracketed = regexp.MustCompile(`\[([^]]*)\]`)

// granted reads a list of kubectl auth can-i, which has the names that a right is
// limited to before the verbs, without what any account may: ask about itself.
func granted(list string) grant {
	all := make(grant)
	for line := range strings.Lines(list) {
		resource, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		columns := bracketed.FindAllStringSubmatch(rest, -1)
		if len(columns) != 3 || strings.HasPrefix(resource, "[") || strings.HasPrefix(resource, "self") || strings.HasPrefix(resource, "clustertrustbundles.") {
			continue // no resource, or anybody's
		}
		if names := columns[1][1]; names != "" {
			resource += "/" + names
		}
		words := append(strings.Fields(all[resource]), strings.Fields(columns[2][1])...)
		slices.Sort(words)
		all[resource] = strings.Join(slices.Compact(words), " ")
	}
	return all
}
