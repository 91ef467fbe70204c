package translate

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// class is what counts of a ProxyClass.
type class struct {
	name     string
	spec     *v1alpha1.ProxyClassSpec
	grants   []hostGrant // none: every namespace may claim every hostname
	policy   *stanzas    // for backends for which no nearer place has them
	problems []string    // of the selectors
}

// hostGrant lets some namespaces claim some hostnames.
type hostGrant struct {
	everyone bool
	selector labels.Selector // nil: selects nothing
	hosts    []string
}

// selects says whether the grant is for a namespace. A namespace that is not
// known is selected by no selector, not even by one that asks for the absence
// of a label.
func (g *hostGrant) selects(ns *namespace) bool {
	if g.everyone {
		return true
	}
	return g.selector != nil && ns != nil && g.selector.Matches(labels.Set(ns.labels))
}

// allowed returns the hostnames that routes of a namespace may claim.
func (c *class) allowed(ns *namespace) *hostSet {
	set := &hostSet{all: len(c.grants) == 0}
	for i := range c.grants {
		if !c.grants[i].selects(ns) {
			continue
		}
		for _, h := range c.grants[i].hosts {
			set.add(h)
		}
	}
	return set
}

// newClass reads a ProxyClass. A grant whose selector cannot be read grants
// nothing; the others hold.
func newClass(o *v1alpha1.ProxyClass) *class {
	c := &class{name: o.Name, spec: o.Spec.DeepCopy()}
	c.policy = readStanzas(c.defaults().BackendPolicy, fmt.Sprintf("ProxyClass %s: defaults.backendPolicy", quote(o.Name)))
	for i := range c.spec.AllowedRoutes {
		rg := &c.spec.AllowedRoutes[i]
		g := hostGrant{}
		var err error
		g.everyone, g.selector, err = readNamespaces(rg.Namespaces)
		if err != nil {
			c.problems = append(c.problems, fmt.Sprintf("allowedRoutes[%d].namespaces: %s", i, short(err.Error())))
		}
		for _, h := range rg.Hostnames {
			g.hosts = append(g.hosts, string(h))
		}
		if len(g.hosts) == 0 {
			g.hosts = []string{anyHost}
		}
		c.grants = append(c.grants, g)
	}
	return c
}

// readNamespaces fails closed: whatever is not understood selects nothing.
func readNamespaces(n *v1alpha1.RouteNamespaces) (everyone bool, selector labels.Selector, err error) {
	switch {
	case n == nil:
		return true, nil, nil
	case n.From == v1alpha1.NamespacesFromSelector && n.Selector != nil:
		selector, err = metav1.LabelSelectorAsSelector(n.Selector)
		if err != nil {
			return false, nil, err
		}
		return false, selector, nil
	case n.From == v1alpha1.NamespacesFromSelector:
		return false, nil, errors.New("from: Selector needs a selector")
	case n.Selector != nil:
		return false, nil, errors.New("a selector needs from: Selector")
	case n.From == "" || n.From == v1alpha1.NamespacesFromAll:
		return true, nil, nil
	default:
		return false, nil, fmt.Errorf("from: %s is not known", quote(string(n.From)))
	}
}

// classes is all classes, and the one for routes that name none.
type classes struct {
	byName   map[string]*class
	implicit classChoice
	verdicts map[string]Verdict
}

// classChoice is the class of a route, or why it has none. It is comparable.
type classChoice struct {
	class           *class
	reason, message string
}

// judgeClasses keeps the value of a class whose spec did not change.
func judgeClasses(prev classes, objects *gathered[*v1alpha1.ProxyClass]) classes {
	next := classes{
		byName:   make(map[string]*class, len(objects.byName)),
		verdicts: make(map[string]Verdict, len(objects.byName)),
	}
	for o := range objects.all() {
		c := prev.byName[o.Name]
		if c == nil || !reflect.DeepEqual(c.spec, &o.Spec) {
			c = newClass(o)
		}
		next.byName[o.Name] = c
		next.verdicts[o.Name] = Verdict{Generation: o.Generation, Conditions: []Condition{c.accepted()}}
	}
	next.implicit = next.chooseImplicit(objects)
	return next
}

// chooseImplicit picks the class of routes that name none.
func (cs *classes) chooseImplicit(objects *gathered[*v1alpha1.ProxyClass]) classChoice {
	count := len(cs.byName)
	if o := implicitClass(objects.all()); o != nil {
		return classChoice{class: cs.byName[o.Name]}
	}
	if count == 0 {
		return classChoice{reason: v1alpha1.ReasonNoClass, message: "There is no ProxyClass. " +
			"Create one: it says which namespaces may claim which hostnames."}
	}
	return classChoice{reason: v1alpha1.ReasonNoClass, message: fmt.Sprintf(
		"The route names no class, and none of the %d ProxyClasses is the default. Set spec.className, or annotate a class with %s=true.",
		count, v1alpha1.DefaultClassAnnotation)}
}

// implicitClass returns the class of routes that name none: of those annotated as
// default the oldest, else the only one; nil when there is neither.
func implicitClass(all iter.Seq[*v1alpha1.ProxyClass]) *v1alpha1.ProxyClass {
	objects := slices.Collect(all)
	var defaults []*v1alpha1.ProxyClass
	for _, o := range objects {
		if o.Annotations[v1alpha1.DefaultClassAnnotation] == "true" {
			defaults = append(defaults, o)
		}
	}
	switch {
	case len(defaults) > 0:
		return slices.MinFunc(defaults, byAge)
	case len(objects) == 1:
		return objects[0]
	default:
		return nil
	}
}

// OfClasses returns the snapshot with the named classes alone and the routes that
// have one of them; s itself when there is no name. A route that names no class has
// the one that it would have in s, so that each route of a cluster is one
// installation's: a class that is not ours may be the default. What is nobody's, for
// want of a class, is left out as well.
func (s Snapshot) OfClasses(names []string) Snapshot {
	if len(names) == 0 {
		return s
	}
	implicit := implicitClass(slices.Values(s.Classes))
	var routes []*v1alpha1.ProxyRoute
	for _, r := range s.Routes {
		name := r.Spec.ClassName
		if (name == nil || *name == "") && implicit != nil {
			name = &implicit.Name
		}
		if name != nil && slices.Contains(names, *name) {
			routes = append(routes, r)
		}
	}
	var classes []*v1alpha1.ProxyClass
	for _, c := range s.Classes {
		if slices.Contains(names, c.Name) {
			classes = append(classes, c)
		}
	}
	s.Routes, s.Classes = routes, classes
	return s
}

// choose returns the class of a route.
func (cs *classes) choose(r *v1alpha1.ProxyRoute) classChoice {
	if r.Spec.ClassName == nil || *r.Spec.ClassName == "" {
		return cs.implicit
	}
	if c := cs.byName[*r.Spec.ClassName]; c != nil {
		return classChoice{class: c}
	}
	return classChoice{reason: v1alpha1.ReasonClassNotFound, message: fmt.Sprintf(
		"ProxyClass %s does not exist. Create it or correct spec.className.", quote(*r.Spec.ClassName))}
}

// defaults returns the stanzas of the class; none is a zero value.
func (c *class) defaults() v1alpha1.ClassDefaults {
	if c == nil || c.spec.Defaults == nil {
		return v1alpha1.ClassDefaults{}
	}
	return *c.spec.Defaults
}

// accepted is the class's Accepted condition.
func (c *class) accepted() Condition {
	if len(c.problems) > 0 {
		return Condition{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalidSelector,
			Message: bounded("These grants grant nothing until they are corrected: " + list(c.problems, "; ") + "."),
		}
	}
	return Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted,
		Message: cmp.Or(c.summary(), "Every namespace may claim every hostname."),
	}
}

// summary says what the class grants; "" when it has no grants of its own.
func (c *class) summary() string {
	if len(c.grants) == 0 {
		return ""
	}
	return fmt.Sprintf("The class has %s.", plural(len(c.grants), "grant"))
}
