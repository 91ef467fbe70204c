package translate

import (
	"cmp"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// name identifies an object of a kind; Namespace is empty for cluster-scoped
// kinds.
type name = types.NamespacedName

// object is a pointer to a Kubernetes object.
type object interface {
	comparable
	metav1.Object
}

// gathered is the objects of one kind, from one snapshot to the next. It points
// to the objects of the last snapshot only: a lister may hand out pointers into
// one array per snapshot, and one old pointer would keep all of that alive. So
// nothing else here points to an object, but to where it is filed.
type gathered[T object] struct {
	byName map[name]*filed[T]
	turn   uint64 // counts the updates
}

// filed is an object and the last update that saw it.
type filed[T object] struct {
	object T
	turn   uint64
}

// difference between two snapshots. An object that was replaced is in both.
type difference[T object] struct {
	came []*filed[T]
	gone []T
}

func (d difference[T]) any() bool { return len(d.came)+len(d.gone) > 0 }

// update takes the objects of a new snapshot; same says whether two objects of
// one name are to be taken as one.
func (g *gathered[T]) update(list []T, same func(a, b T) bool) (d difference[T]) {
	if g.byName == nil {
		g.byName = make(map[name]*filed[T], len(list))
	}
	g.turn++
	seen := 0
	for _, o := range list {
		n := nameOf(o)
		f := g.byName[n]
		switch {
		case f == nil:
			f = &filed[T]{}
			g.byName[n] = f
			d.came = append(d.came, f)
		case !same(f.object, o):
			d.gone, d.came = append(d.gone, f.object), append(d.came, f)
		}
		f.object = o
		if f.turn != g.turn {
			f.turn = g.turn
			seen++
		}
	}
	if seen == len(g.byName) {
		return d
	}
	for n, f := range g.byName {
		if f.turn != g.turn {
			delete(g.byName, n)
			d.gone = append(d.gone, f.object)
		}
	}
	return d
}

// all yields the objects in no particular order.
func (g *gathered[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, f := range g.byName {
			if !yield(f.object) {
				return
			}
		}
	}
}

func nameOf(o metav1.Object) name {
	return name{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// sameVersion says that a and b are the same version of an object. Objects that
// come from files have no UID: only the pointer tells.
func sameVersion[T object](a, b T) bool {
	return a == b || a.GetUID() != "" && a.GetUID() == b.GetUID() &&
		a.GetResourceVersion() != "" && a.GetResourceVersion() == b.GetResourceVersion()
}

// sameSpec says that a and b have the same spec. It is for kinds of whose
// metadata only what never changes counts (name, creationTimestamp), so that
// our own status writes change nothing.
func sameSpec[T object](a, b T) bool {
	return a == b || a.GetUID() != "" && a.GetUID() == b.GetUID() &&
		a.GetGeneration() != 0 && a.GetGeneration() == b.GetGeneration()
}

// byAge orders objects by creationTimestamp, then namespace, then name: the
// order in which they win conflicts.
func byAge[T object](a, b T) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if c := at.Time.Compare(bt.Time); c != 0 {
		return c
	}
	if c := cmp.Compare(a.GetNamespace(), b.GetNamespace()); c != 0 {
		return c
	}
	return cmp.Compare(a.GetName(), b.GetName())
}

// orderWords says why a, which comes first by byAge, does.
func orderWords(a, b metav1.Object) string {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if at.Time.Before(bt.Time) {
		return "which is older"
	}
	return "which is of the same age and comes first by name"
}
