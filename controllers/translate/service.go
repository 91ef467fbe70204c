package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// service is what counts of a Service, and the policies that hold on it. It is
// never changed.
type service struct {
	external bool          // ExternalName: a DNS name, no endpoints
	ports    []servicePort // in the order of the Service
	policy   *stanzas      // of the whole Service; nil: none
}

// servicePort is a port of a Service.
type servicePort struct {
	name     string
	number   int32
	protocol corev1.Protocol
	policy   *stanzas // of this port; nil: none
}

func (p servicePort) tcp() bool { return p.protocol == "" || p.protocol == corev1.ProtocolTCP }

// usable says that requests can be sent to the port. Its number is in range
// unless nobody validated the Service.
func (p servicePort) usable() bool { return p.tcp() && p.number >= 1 && p.number <= 65535 }

func (p servicePort) String() string {
	if p.name == "" {
		return fmt.Sprint(p.number)
	}
	return fmt.Sprintf("%d (%s)", p.number, p.name)
}

// port finds a port by number or name. Of two ports with one number the TCP one
// is meant.
func (s *service) port(ref intstr.IntOrString) (servicePort, bool) {
	found, ok := servicePort{}, false
	for _, p := range s.ports {
		switch {
		case ref.Type == intstr.String && p.name == ref.StrVal && p.name != "":
			return p, true
		case ref.Type == intstr.Int && p.number == ref.IntVal && (!ok || p.tcp()):
			found, ok = p, true
		}
	}
	return found, ok
}

// sameAs says that nothing of what counts differs.
func (s *service) sameAs(o *service) bool {
	return s.external == o.external && s.policy.sameAs(o.policy) && slices.EqualFunc(s.ports, o.ports, servicePort.sameAs)
}

func (p servicePort) sameAs(o servicePort) bool {
	return p.name == o.name && p.number == o.number && p.protocol == o.protocol && p.policy.sameAs(o.policy)
}

func readService(o *corev1.Service) *service {
	s := &service{external: o.Spec.Type == corev1.ServiceTypeExternalName}
	if len(o.Spec.Ports) > 0 {
		s.ports = make([]servicePort, len(o.Spec.Ports))
	}
	for i, p := range o.Spec.Ports {
		s.ports[i] = servicePort{name: p.Name, number: p.Port, protocol: p.Protocol}
	}
	return s
}

// lay returns the Service under the policies that won it or its ports.
func (s *service) lay(n name, won map[target]*stanzas) *service {
	l := &service{external: s.external, ports: slices.Clone(s.ports), policy: won[target{service: n}]}
	for i := range l.ports {
		l.ports[i].policy = won[target{service: n, port: l.ports[i].number}]
	}
	return l
}

// policed says that a policy was laid on the Service.
func (s *service) policed() bool {
	return s.policy != nil || slices.ContainsFunc(s.ports, func(p servicePort) bool { return p.policy != nil })
}

// services is all Services.
type services struct {
	byName   map[name]*service
	targeted map[name]struct{} // those on which a policy holds
}

// update takes in the Services that changed and lays the policies. The value of
// a Service of which nothing that counts has changed is kept.
func (ss *services) update(d difference[*corev1.Service], objects *gathered[*v1alpha1.BackendPolicy]) policies {
	if ss.byName == nil {
		ss.byName = make(map[name]*service, len(d.came))
	}
	before := make(map[name]*service)
	for _, o := range d.gone {
		before[nameOf(o)] = ss.byName[nameOf(o)]
		delete(ss.byName, nameOf(o))
	}
	touched := make(map[name]struct{}, len(d.came))
	for _, f := range d.came {
		n := nameOf(f.object)
		ss.byName[n] = readService(f.object)
		touched[n] = struct{}{}
	}
	p := judgePolicies(objects, ss.byName)
	for n := range ss.targeted {
		touched[n] = struct{}{}
	}
	ss.targeted = make(map[name]struct{}, len(p.won))
	for t := range p.won {
		ss.targeted[t.service] = struct{}{}
		touched[t.service] = struct{}{}
	}
	for n := range touched {
		current := ss.byName[n]
		if current == nil {
			continue
		}
		old := before[n]
		if old == nil {
			old = current
		}
		laid := current
		if _, ok := ss.targeted[n]; ok || current.policed() {
			laid = current.lay(n, p.won)
		}
		if old.sameAs(laid) {
			laid = old
		}
		ss.byName[n] = laid
	}
	return p
}
