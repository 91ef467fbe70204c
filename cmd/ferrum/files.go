package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/go-logr/logr"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/manifests"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// fileSource feeds the data plane from manifest files. It does without a
// cluster what the controllers do in one: each change is a snapshot, a plan,
// an Apply. What would be a condition in a status is a line in the log.
type fileSource struct {
	path       string
	apply      func(plan.Plan) error
	log        logr.Logger
	zone, node string // where the process runs
	// secret seals session cookies. It is of this process: objects of files have
	// no UIDs that clients could not know.
	secret []byte

	builder translate.Builder
	applied bool            // something is in force
	said    map[string]bool // what the last snapshot gave to say
}

func newFileSource(c *Config, apply func(plan.Plan) error, log logr.Logger) *fileSource {
	secret := make([]byte, 32)
	rand.Read(secret)
	return &fileSource{path: c.Manifests, apply: apply, log: log, zone: c.Topology.Zone, node: c.Topology.Node, secret: secret,
		builder: translate.Builder{KeepLastGood: true}}
}

// run watches the files until ctx ends. An error says that they cannot be
// watched at all.
func (f *fileSource) run(ctx context.Context) error {
	return manifests.Watch(ctx, f.path, f.changed)
}

// changed takes a snapshot. A file with an error is in it as it was when it had
// none, so what was served stays and the other files still count. The first
// snapshot has nothing to fall back on: it must be without errors, or requests
// would reach rules that are less specific than those that are missing.
func (f *fileSource) changed(s translate.Snapshot, problems []manifests.Problem) {
	broken := false
	for _, p := range problems {
		if p.Severity == manifests.Warning {
			f.log.Info("manifest ignored", "file", p.File, "line", p.Line, "object", p.Object, "warning", p.Message)
			continue
		}
		broken = true
		f.log.Error(nil, "manifest refused", "file", p.File, "line", p.Line, "object", p.Object, "problem", p.Message)
	}
	if broken && !f.applied {
		f.log.Info("nothing is served until the manifests have no errors", "path", f.path)
		return
	}
	s.Zone, s.Node, s.SessionSecret = f.zone, f.node, f.secret
	r := f.builder.Build(s)
	if err := f.apply(r.Plan); err != nil {
		f.log.Error(err, "plan refused; the one before stays in force")
		return
	}
	f.applied = true
	if broken {
		f.log.Info("files with errors stay as they were", "path", f.path)
	}
	f.log.Info("manifests applied", "path", f.path, "routes", len(r.Plan.Routes), "pools", len(r.Plan.Pools))
	f.tell(r)
}

// tell logs the findings that the snapshot before did not have.
func (f *fileSource) tell(r translate.Result) {
	now := make(map[string]bool)
	for _, line := range findings(r) {
		now[line.key()] = true
		if !f.said[line.key()] {
			f.log.Info("not as asked for", "kind", line.kind, "name", line.name, "condition", line.condition,
				"reason", line.reason, "message", line.message)
		}
	}
	f.said = now
}

// finding is a condition that is not as its user wants it, or a warning.
type finding struct {
	kind, name, condition, reason, message string
}

func (f finding) key() string {
	return f.kind + "\x00" + f.name + "\x00" + f.condition + "\x00" + f.reason + "\x00" + f.message
}

// findings lists, in a stable order, what is not as the objects ask for.
func findings(r translate.Result) (all []finding) {
	add := func(kind, name string, v translate.Verdict) {
		for _, c := range v.Conditions {
			if !c.AsWished() {
				all = append(all, finding{kind, name, c.Type + "=" + string(c.Status), c.Reason, c.Message})
			}
		}
	}
	for n, v := range r.Verdicts.Routes {
		add("ProxyRoute", n.String(), v.Verdict)
	}
	for n, v := range r.Verdicts.Policies {
		add("BackendPolicy", n.String(), v)
	}
	for n, v := range r.Verdicts.Classes {
		add("ProxyClass", n, v)
	}
	slices.SortFunc(all, func(a, b finding) int { return cmp.Compare(a.key(), b.key()) })
	for _, w := range r.Warnings {
		all = append(all, finding{kind: "warning", message: w})
	}
	return all
}

// String is the finding in one line.
func (f finding) String() string {
	if f.name == "" {
		return f.message
	}
	return fmt.Sprintf("%s %s %s (%s): %s", f.kind, f.name, f.condition, f.reason, f.message)
}
