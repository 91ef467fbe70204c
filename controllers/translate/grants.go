package translate

import (
	"maps"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// anyHost stands for every host, in grants and in plans.
const anyHost = "*"

// hostSet is a set of granted hostnames.
type hostSet struct {
	all       bool
	exact     map[string]struct{}
	wildcards map[string]struct{} // "*.example.com" as ".example.com"
}

func (s *hostSet) add(host string) {
	host = strings.ToLower(host)
	switch {
	case host == anyHost:
		s.all = true
	case strings.HasPrefix(host, "*."):
		if s.wildcards == nil {
			s.wildcards = make(map[string]struct{})
		}
		s.wildcards[host[1:]] = struct{}{}
	default:
		if s.exact == nil {
			s.exact = make(map[string]struct{})
		}
		s.exact[host] = struct{}{}
	}
}

// covers says whether host, exact, wildcard or anyHost, is granted.
// "*.example.com" grants itself and every name under example.com, exact or
// wildcard, but not example.com.
func (s *hostSet) covers(host string) bool {
	if s.all {
		return true
	}
	if host == anyHost {
		return false
	}
	rest, wildcard := strings.CutPrefix(host, "*.")
	if wildcard {
		rest = "." + rest
	} else if _, ok := s.exact[host]; ok {
		return true
	}
	for {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return false
		}
		if _, ok := s.wildcards[rest[dot:]]; ok {
			return true
		}
		rest = rest[dot+1:]
	}
}

// validHostname says whether the data plane can serve a hostname in lower case:
// labels of letters, digits and inner hyphens, with at most one wildcard label,
// leftmost, or anyHost. The schema demands the same; an object that passed an
// older schema must not spoil the whole plan.
func validHostname(host string) bool {
	if host == anyHost {
		return true
	}
	if len(host) > 253 {
		return false
	}
	host = strings.TrimPrefix(host, "*.")
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

// namespace is what counts of a Namespace.
type namespace struct {
	labels map[string]string
}

// judgeNamespaces keeps the value of a namespace whose labels did not change.
func judgeNamespaces(prev map[string]*namespace, objects *gathered[*corev1.Namespace]) map[string]*namespace {
	next := make(map[string]*namespace, len(objects.byName))
	for o := range objects.all() {
		if old := prev[o.Name]; old != nil && maps.Equal(old.labels, o.Labels) {
			next[o.Name] = old
			continue
		}
		next[o.Name] = &namespace{labels: o.Labels}
	}
	return next
}

// refGrants says which namespaces' ProxyRoutes may refer to which Services of
// one namespace.
type refGrants struct {
	from map[string]serviceGrant
}

// serviceGrant is the Services that one namespace may refer to.
type serviceGrant struct {
	all   bool
	names map[string]bool
}

// permits says whether ProxyRoutes of a namespace may refer to a Service. A nil
// *refGrants permits nothing.
func (g *refGrants) permits(from, service string) bool {
	if g == nil {
		return false
	}
	grant := g.from[from]
	return grant.all || grant.names[service]
}

// judgeRefGrants reads the ReferenceGrants by the namespace they are in, and
// keeps the value of a namespace for which they say the same as before.
func judgeRefGrants(prev map[string]*refGrants, objects *gathered[*gatewayv1.ReferenceGrant]) map[string]*refGrants {
	next := make(map[string]*refGrants)
	for o := range objects.all() {
		for _, from := range o.Spec.From {
			if from.Group != v1alpha1.GroupName || from.Kind != "ProxyRoute" {
				continue
			}
			for _, to := range o.Spec.To {
				if to.Group == "" && to.Kind == "Service" {
					addRefGrant(next, o.Namespace, string(from.Namespace), to.Name)
				}
			}
		}
	}
	for ns, g := range next {
		if old := prev[ns]; old != nil && reflect.DeepEqual(old, g) {
			next[ns] = old
		}
	}
	return next
}

func addRefGrant(grants map[string]*refGrants, in, from string, service *gatewayv1.ObjectName) {
	g := grants[in]
	if g == nil {
		g = &refGrants{from: make(map[string]serviceGrant)}
		grants[in] = g
	}
	grant := g.from[from]
	if service == nil || *service == "" {
		grant.all = true
	} else {
		if grant.names == nil {
			grant.names = make(map[string]bool)
		}
		grant.names[string(*service)] = true
	}
	g.from[from] = grant
}
