package translate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// builtInPolicy holds where no place has a stanza, and within a stanza for what
// it leaves out.
var builtInPolicy = plan.Policy{
	LoadBalancing: plan.LoadBalancing{Balancer: plan.LeastRequest, PreferClose: true},
	Passive: plan.PassiveCheck{
		ConsecutiveFailures: 5, Statuses: statusSet(502, 504),
		FailureMinRequests: 20, FailureWindow: 10 * time.Second,
		BaseEjection: 30 * time.Second, MaxEjection: 5 * time.Minute, MaxEjectedPercent: 50,
	},
	PanicThresholdPercent: 50,
	Connection:            plan.Connection{MaxIdlePerEndpoint: 256, IdleTimeout: 55 * time.Second},
	DrainTimeout:          60 * time.Second,
	RetryBudget:           plan.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinCount: 10, MinInterval: time.Second},
}

func statusSet(start, end int) (s plan.StatusSet) {
	s.Add(start, end)
	return s
}

// stanzas is BackendSettings as read from one place. It is comparable and never
// changed; nil is a place without stanzas.
type stanzas struct {
	loadBalancing stanza[plan.LoadBalancing]
	health        stanza[health]
	connection    stanza[plan.Connection]
	breaker       stanza[plan.CircuitBreaker]
	drain         stanza[time.Duration]
	retryBudget   stanza[plan.RetryBudget]
}

// health is what the stanza healthCheck says.
type health struct {
	active       plan.ActiveCheck
	passive      plan.PassiveCheck
	panicPercent uint8
}

// stanza is what one stanza of a place says.
type stanza[T comparable] struct {
	set     bool
	value   T
	problem string // why the stanza cannot be used; names its place
}

// sameAs says that two places say the same.
func (s *stanzas) sameAs(o *stanzas) bool {
	return s == o || s != nil && o != nil && *s == *o
}

// readStanzas reads the settings of a place; place is named in problems.
func readStanzas(b *v1alpha1.BackendSettings, place string) *stanzas {
	if b == nil || b.LoadBalancing == nil && b.HealthCheck == nil && b.Connection == nil && b.Drain == nil && b.RetryBudget == nil && b.CircuitBreaker == nil {
		return nil
	}
	return &stanzas{
		loadBalancing: readStanza(b.LoadBalancing, place, readLoadBalancing),
		health:        readStanza(b.HealthCheck, place, readHealth),
		connection:    readStanza(b.Connection, place, readConnection),
		breaker:       readStanza(b.CircuitBreaker, place, readCircuitBreaker),
		drain:         readStanza(b.Drain, place, readDrain),
		retryBudget:   readStanza(b.RetryBudget, place, readRetryBudget),
	}
}

func readStanza[From any, T comparable](from *From, place string, read func(*fields, *From) T) stanza[T] {
	if from == nil {
		return stanza[T]{}
	}
	f := &fields{place: place + ": "}
	value := read(f, from)
	return stanza[T]{set: true, value: value, problem: f.problem}
}

// effective takes each stanza whole from the first place that has it; places
// are given nearest first.
func effective(places ...*stanzas) (policy plan.Policy, problem string) {
	policy = builtInPolicy
	has := func(set func(*stanzas) bool) *stanzas {
		i := slices.IndexFunc(places, func(s *stanzas) bool { return s != nil && set(s) })
		if i < 0 {
			return nil
		}
		return places[i]
	}
	var problems []string
	if s := has(func(s *stanzas) bool { return s.loadBalancing.set }); s != nil {
		policy.LoadBalancing = s.loadBalancing.value
		problems = append(problems, s.loadBalancing.problem)
	}
	if s := has(func(s *stanzas) bool { return s.health.set }); s != nil {
		h := &s.health.value
		policy.Active, policy.Passive, policy.PanicThresholdPercent = h.active, h.passive, h.panicPercent
		problems = append(problems, s.health.problem)
	}
	if s := has(func(s *stanzas) bool { return s.connection.set }); s != nil {
		policy.Connection = s.connection.value
		problems = append(problems, s.connection.problem)
	}
	if s := has(func(s *stanzas) bool { return s.breaker.set }); s != nil {
		policy.Breaker = s.breaker.value
		problems = append(problems, s.breaker.problem)
	}
	if s := has(func(s *stanzas) bool { return s.drain.set }); s != nil {
		policy.DrainTimeout = s.drain.value
		problems = append(problems, s.drain.problem)
	}
	if s := has(func(s *stanzas) bool { return s.retryBudget.set }); s != nil {
		policy.RetryBudget = s.retryBudget.value
		problems = append(problems, s.retryBudget.problem)
	}
	problems = slices.DeleteFunc(problems, func(p string) bool { return p == "" })
	return policy, list(problems, "; ")
}

var balancers = map[v1alpha1.LoadBalancingType]plan.Balancer{
	"":                                   plan.LeastRequest,
	v1alpha1.LoadBalancingLeastRequest:   plan.LeastRequest,
	v1alpha1.LoadBalancingRoundRobin:     plan.RoundRobin,
	v1alpha1.LoadBalancingPeakEWMA:       plan.PeakEWMA,
	v1alpha1.LoadBalancingConsistentHash: plan.ConsistentHash,
	v1alpha1.LoadBalancingRandom:         plan.Random,
	v1alpha1.LoadBalancingFirstHealthy:   plan.FirstHealthy,
}

func readLoadBalancing(f *fields, from *v1alpha1.LoadBalancing) plan.LoadBalancing {
	out := builtInPolicy.LoadBalancing
	balancer, known := balancers[from.Type]
	if !known {
		f.fail("loadBalancing type %s is not known to this version", quote(string(from.Type)))
	}
	out.Balancer = balancer
	switch {
	case (balancer == plan.ConsistentHash) != (from.ConsistentHash != nil):
		f.fail("loadBalancing.consistentHash is for type ConsistentHash, and required there")
	case from.ConsistentHash != nil:
		out.Hash = readHashKey(f, from.ConsistentHash)
	}
	if s := from.SlowStart; s != nil {
		window := f.duration("loadBalancing.slowStart.window", &s.Window, 0)
		percent := f.number("loadBalancing.slowStart.minWeightPercent", s.MinWeightPercent, 10, 1, 100)
		if window > 0 {
			out.SlowStart, out.SlowStartMinPercent = window, uint8(percent)
		}
	}
	switch from.Topology {
	case "", v1alpha1.TopologyPreferClose:
	case v1alpha1.TopologyOff:
		out.PreferClose = false
	default:
		f.fail("loadBalancing.topology %s is not known to this version", quote(string(from.Topology)))
	}
	return out
}

var hashSources = map[v1alpha1.HashKeyType]plan.HashSource{
	v1alpha1.HashKeySourceIP:   plan.HashSourceIP,
	v1alpha1.HashKeyHeader:     plan.HashHeader,
	v1alpha1.HashKeyCookie:     plan.HashCookie,
	v1alpha1.HashKeyQueryParam: plan.HashQueryParam,
}

func readHashKey(f *fields, from *v1alpha1.ConsistentHash) plan.HashKey {
	source, known := hashSources[from.Type]
	key := plan.HashKey{Source: source}
	if from.Name != nil {
		key.Name = *from.Name
	}
	switch {
	case !known:
		f.fail("loadBalancing.consistentHash type %s is not known to this version", quote(string(from.Type)))
	case (source == plan.HashSourceIP) != (key.Name == ""):
		f.fail("loadBalancing.consistentHash.name is required, except for type SourceIP, which has none")
	case (source == plan.HashHeader || source == plan.HashCookie) && !isToken(key.Name):
		f.fail("loadBalancing.consistentHash.name %s is not a token (RFC 9110, 5.6.2)", quote(key.Name))
	case source == plan.HashHeader:
		key.Name = strings.ToLower(key.Name)
	}
	return key
}

func readConnection(f *fields, from *v1alpha1.Connection) plan.Connection {
	builtIn := builtInPolicy.Connection
	return plan.Connection{
		MaxIdlePerEndpoint: uint32(f.number("connection.maxIdlePerEndpoint", from.MaxIdlePerEndpoint, int32(builtIn.MaxIdlePerEndpoint), 0, 65535)),
		IdleTimeout:        f.duration("connection.idleTimeout", from.IdleTimeout, builtIn.IdleTimeout),
		MaxAge:             f.duration("connection.maxAge", from.MaxAge, builtIn.MaxAge),
	}
}

func readDrain(f *fields, from *v1alpha1.Drain) time.Duration {
	return f.duration("drain.timeout", from.Timeout, builtInPolicy.DrainTimeout)
}

// fields reads the fields of a stanza and keeps the first problem. It checks
// what the schema does: an object may come from files, or be older than the
// schema.
type fields struct {
	place   string // begins a problem
	problem string
}

func (f *fields) fail(format string, args ...any) {
	if f.problem == "" {
		f.problem = f.place + fmt.Sprintf(format, args...)
	}
}

// duration reads a duration; absent is the built-in one.
func (f *fields) duration(field string, from *v1alpha1.Duration, builtIn time.Duration) time.Duration {
	if from == nil {
		return builtIn
	}
	d, err := parseDuration(string(*from))
	if err != nil {
		f.fail("%s: %v", field, err)
		return builtIn
	}
	return d
}

// number reads a number from lo to hi; absent is the built-in one.
func (f *fields) number(field string, from *int32, builtIn, lo, hi int32) int32 {
	switch {
	case from == nil:
		return builtIn
	case *from < lo || *from > hi:
		f.fail("%s: %d is not from %d to %d", field, *from, lo, hi)
		return builtIn
	default:
		return *from
	}
}

// statuses reads ranges of statuses; nil are the built-in ones.
func (f *fields) statuses(field string, from []v1alpha1.StatusRange, builtIn plan.StatusSet) plan.StatusSet {
	if from == nil {
		return builtIn
	}
	var set plan.StatusSet
	for _, r := range from {
		if r.Start < 100 || r.End > 599 || r.Start > r.End {
			f.fail("%s: %d to %d is not a range within 100 to 599", field, r.Start, r.End)
			continue
		}
		set.Add(int(r.Start), int(r.End))
	}
	return set
}

// match reads text that has to meet a condition; absent is the built-in one.
func (f *fields) match(field string, from *string, builtIn string, good func(string) bool, what string) string {
	switch {
	case from == nil:
		return builtIn
	case !good(*from):
		f.fail("%s: %s is not %s", field, quote(*from), what)
		return builtIn
	default:
		return *from
	}
}
