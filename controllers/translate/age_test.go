package translate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// ofAge is the metadata of an object "namespace/name" that was created then.
func ofAge(key string, created time.Time) metav1.ObjectMeta {
	ns, name, _ := strings.Cut(key, "/")
	return metav1.ObjectMeta{
		Namespace: ns, Name: name, UID: types.UID(key), Generation: 1, ResourceVersion: "1", CreationTimestamp: metav1.NewTime(created),
	}
}

// rivals are objects of which one can have what all of them claim: a route with a
// match, a policy for a Service, and the default class. created says when each was.
func rivals(created map[string]time.Time) Snapshot {
	s := Snapshot{Services: []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shared", Name: "app"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}}}
	for key, at := range created {
		meta := ofAge(key, at)
		s.Routes = append(s.Routes, &v1alpha1.ProxyRoute{ObjectMeta: meta, Spec: v1alpha1.ProxyRouteSpec{
			Hostnames: []v1alpha1.Hostname{"a.example.com"},
			Rules:     []v1alpha1.RouteRule{{Name: "all", BackendRefs: []v1alpha1.BackendRef{{Name: "app", Port: intstr.FromInt32(80)}}}},
		}})
		meta.Namespace, meta.Name = "", strings.ReplaceAll(key, "/", "-")
		meta.Annotations = map[string]string{v1alpha1.DefaultClassAnnotation: "true"}
		s.Classes = append(s.Classes, &v1alpha1.ProxyClass{ObjectMeta: meta})
		meta.Namespace, meta.Annotations = "shared", nil
		s.Policies = append(s.Policies, &v1alpha1.BackendPolicy{ObjectMeta: meta, Spec: v1alpha1.BackendPolicySpec{
			TargetRefs: []v1alpha1.PolicyTargetRef{{Kind: "Service", Name: "app"}},
		}})
	}
	return s
}

// winners are the objects that have what all claim.
func winners(r Result) (all []string) {
	classes := map[string]bool{}
	for n, v := range r.Verdicts.Routes {
		if v.Condition(v1alpha1.ConditionConflicted).Status == metav1.ConditionFalse {
			all = append(all, "route "+n.String())
		}
		_, class, _ := strings.Cut(v.Condition(v1alpha1.ConditionAccepted).Message, "ProxyClass ")
		class, _, _ = strings.Cut(class, " ")
		classes[class] = true
	}
	for n, v := range r.Verdicts.Policies {
		if v.Condition(v1alpha1.ConditionConflicted).Status == metav1.ConditionFalse {
			all = append(all, "policy "+n.String())
		}
	}
	for class := range classes {
		all = append(all, "class "+class)
	}
	all = append(all, "first in the plan "+r.Plan.Routes[0].Namespace+"/"+r.Plan.Routes[0].Name)
	slices.Sort(all)
	return all
}

// The timestamps of objects are those of the API servers' clocks, which may be
// wrong and may go back. They are compared with each other and with nothing else:
// who wins is the same at any time, in any order and after any number of builds.
func TestWhoIsOlderNeedsNoClock(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	elsewhere := time.FixedZone("elsewhere", 5*3600)
	for what, tc := range map[string]struct {
		created map[string]time.Time
		want    string
	}{
		"one is of next year":        {map[string]time.Time{"a/a": now.AddDate(1, 0, 0), "b/b": now}, "b/b"},
		"all are of next year":       {map[string]time.Time{"a/a": now.AddDate(1, 0, 1), "b/b": now.AddDate(1, 0, 0)}, "b/b"},
		"one is of 1970":             {map[string]time.Time{"a/a": now, "b/b": time.Unix(0, 0)}, "b/b"},
		"one has none":               {map[string]time.Time{"a/a": now, "b/b": {}}, "b/b"},
		"equal, by namespace":        {map[string]time.Time{"b/a": now, "a/b": now, "c/a": now}, "a/b"},
		"equal, by name":             {map[string]time.Time{"a/b": now, "a/a": now, "a/c": now}, "a/a"},
		"equal, in other time zones": {map[string]time.Time{"b/b": now.In(elsewhere), "a/a": now.UTC()}, "a/a"},
	} {
		t.Run(what, func(t *testing.T) {
			dashed := strings.ReplaceAll(tc.want, "/", "-")
			want := []string{"class " + quote(dashed), "first in the plan " + tc.want, "policy shared/" + dashed, "route " + tc.want}
			rng := rand.New(rand.NewPCG(1, 2))
			var b Builder
			for range 20 {
				s := shuffle(rng, rivals(tc.created))
				for n, r := range map[string]Result{"anew": Build(s), "again": b.Build(s)} {
					if got := winners(r); !slices.Equal(got, want) {
						t.Fatalf("built %s: %q, want %q", n, got, want)
					}
				}
				// One of the others goes, and is back with the next build.
				without := maps.Clone(tc.created)
				for key := range without {
					if key != tc.want {
						delete(without, key)
						break
					}
				}
				if got := winners(b.Build(rivals(without))); !slices.Contains(got, "route "+tc.want) {
					t.Fatalf("without a rival: %q", got)
				}
			}
		})
	}
}
