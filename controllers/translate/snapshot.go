package translate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// Snapshot is everything that a build looks at. The objects are only read; each
// occurs once, in any order.
type Snapshot struct {
	Routes         []*v1alpha1.ProxyRoute
	Policies       []*v1alpha1.BackendPolicy
	Classes        []*v1alpha1.ProxyClass
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Namespaces     []*corev1.Namespace
	Grants         []*gatewayv1.ReferenceGrant

	// AllowLocalEndpoints admits loopback and link-local endpoint addresses.
	// In a cluster they would reach the proxy's own node, so there it is off.
	AllowLocalEndpoints bool

	// Zone and Node are where the process runs, for topology hints; "" = not
	// known, so hints say nothing.
	Zone, Node string

	// SessionSecret goes into the keys that seal session cookies. Where routes
	// have UIDs, which clients do not know and all replicas do, it may be empty.
	SessionSecret []byte
}

// Result is what a Snapshot means.
type Result struct {
	// Plan for the data plane.
	Plan plan.Plan
	// Verdicts on every route, policy and class of the snapshot.
	Verdicts Verdicts
	// Warnings say, in a stable order, what of the snapshot was left out and no
	// condition has a place for: endpoint addresses that are not usable.
	Warnings []string
}

// Verdicts are what the status of each object should say.
type Verdicts struct {
	Routes   map[types.NamespacedName]RouteVerdict
	Policies map[types.NamespacedName]Verdict
	Classes  map[string]Verdict
}

// Verdict is the judgment on one object.
type Verdict struct {
	// Generation of the object that was judged.
	Generation int64
	// Conditions in a fixed order: Accepted, ResolvedRefs, Conflicted, of which
	// a BackendPolicy has Accepted and Conflicted and a ProxyClass Accepted.
	Conditions []Condition
}

// RouteVerdict is the judgment on a ProxyRoute.
type RouteVerdict struct {
	Verdict
	// Hostnames that are really served: granted by the class, and with at least
	// one match that no earlier rule of another route has taken. "*" stands for
	// every host.
	Hostnames []string
	// Served says that a valid rule of the route is in the plan. A route whose
	// rules are all invalid may still be in the plan, answering 500.
	Served bool
	// Held are the rules that cannot be compiled and are served as they were last
	// good. It may be all of them: then the route is served and not accepted.
	Held []string
}

// Condition is a metav1.Condition without its times.
type Condition struct {
	Type    string
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// AsWished reports whether the condition tells of nothing to correct.
// Accepted=True may still say that a part was left out.
func (c Condition) AsWished() bool {
	switch c.Type {
	case v1alpha1.ConditionConflicted:
		return c.Status == metav1.ConditionFalse
	case v1alpha1.ConditionAccepted:
		return c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonAccepted
	default:
		return c.Status == metav1.ConditionTrue
	}
}

// Condition returns the condition of a type; the zero Condition when the object
// has none.
func (v Verdict) Condition(conditionType string) Condition {
	for _, c := range v.Conditions {
		if c.Type == conditionType {
			return c
		}
	}
	return Condition{}
}
