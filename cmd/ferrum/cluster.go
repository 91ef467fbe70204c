package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ferrum-proxy/ferrum-proxy/controllers"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
)

// podNamespaceFile is where a Pod finds the namespace that it runs in.
const podNamespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// clusterSource feeds the data plane from an API server, and tells the API server
// of what the data plane finds out about endpoints.
//
// tokens are those of the admin port, which the replicas ask each other with.
func clusterSource(c *Config, engine *dataplane.Engine, tokens func() []string, transitions *controllers.Transitions, log logr.Logger) (func(context.Context) error, error) {
	cfg, err := restConfig(c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "ferrum/" + currentVersion()
	var applier controllers.Applier = engine
	replicas := engine.SetReplicas
	var kept *keeper
	if dir := c.Snapshot.Directory; dir != "" {
		if kept, err = newKeeper(dir, cfg, engine.Apply, crmetrics.Registry, log); err != nil {
			return nil, err
		}
		applier = kept
		if c.Replicas.Service != "" {
			kept.replicas, replicas = engine.SetReplicas, kept.setReplicas
		}
	}
	source := func(ctx context.Context) error {
		o := controllers.Options{
			Applier:        applier,
			Health:         engine,
			Transitions:    transitions,
			Zone:           c.Topology.Zone,
			Node:           c.Topology.Node,
			Log:            log,
			Namespaces:     c.WatchNamespaces,
			Classes:        c.Classes,
			LeaseNamespace: leaseNamespace(os.Getenv("POD_NAMESPACE"), podNamespaceFile),
			LeaseName:      os.Getenv("LEASE_NAME"),
		}
		if ns, name, ok := strings.Cut(c.Replicas.Service, "/"); ok {
			o.ReplicasOf, o.Replicas = types.NamespacedName{Namespace: ns, Name: name}, replicas
			if port, ok := adminPort(c.Admin.Address); ok {
				o.Peers = controllers.NewAdminPorts(port, tokens, nil)
			}
		}
		return controllers.Run(ctx, cfg, o)
	}
	if kept == nil {
		return source, nil
	}
	return func(ctx context.Context) error { return kept.run(ctx, source) }, nil
}

// adminPort returns the port at which other replicas reach the admin port that
// listens on an address, as they all have the same settings; false when it is off
// or listens on loopback only.
func adminPort(address string) (port uint16, ok bool) {
	host, service, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return 0, false
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return 0, false
	}
	n, err := strconv.ParseUint(service, 10, 16)
	return uint16(n), err == nil && n != 0
}

// restConfig says how the API server is reached. There is no guessing of
// ~/.kube/config or KUBECONFIG: a proxy that picked up somebody's cluster by
// accident would serve it.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
		}
		return cfg, nil
	}
	cfg, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("not in a cluster: give --manifests DIR|FILE to serve files, or --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("service account of the Pod: %w", err)
	}
	return cfg, nil
}

// leaseNamespace is the namespace of the status writer's lease: that of the
// Pod, by its environment or its service account; else "", which leaves it to
// the controllers.
func leaseNamespace(env, file string) string {
	if env != "" {
		return env
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
