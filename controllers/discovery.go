package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// kindsPoll is the time between two looks for our CRDs while they are missing.
const kindsPoll = time.Second

// ownResources are the resources of our group that must be served before
// anything is watched.
var ownResources = []string{"proxyroutes", "backendpolicies", "proxyclasses"}

// resourceLister is the part of the discovery client that is used here.
type resourceLister interface {
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
}

// apiDiscovery asks the API server what it serves. Discovery needs no right
// beyond system:discovery, which every authenticated client has.
type apiDiscovery struct {
	api resourceLister
}

func newDiscovery(cfg *rest.Config) (*apiDiscovery, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = 10 * time.Second
	c, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	return &apiDiscovery{api: c}, nil
}

// missing returns those of resources that the API server does not serve. An
// error means that it could not be asked, which says nothing about them.
func (d *apiDiscovery) missing(ctx context.Context, groupVersion string, resources ...string) ([]string, error) {
	list, err := d.api.ServerResourcesForGroupVersionWithContext(ctx, groupVersion)
	if apierrors.IsNotFound(err) {
		return resources, nil
	}
	if err != nil {
		return nil, err
	}
	served := make(map[string]bool, len(list.APIResources))
	for _, r := range list.APIResources {
		served[r.Name] = true
	}
	var missing []string
	for _, r := range resources {
		if !served[r] {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// waitForKinds returns true once the API server serves our three kinds, and
// false when ctx ends before. An informer of a kind that does not exist
// would fail with growing backoff; a cheap look every second sees the CRDs when
// they come.
func (d *apiDiscovery) waitForKinds(ctx context.Context, log logr.Logger) bool {
	var said throttle
	for {
		missing, err := d.missing(ctx, v1alpha1.GroupVersion.String(), ownResources...)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			if said.allow(err.Error()) {
				log.Error(err, "cannot ask the API server which kinds it serves; trying again until it answers")
			}
		case len(missing) > 0:
			if msg := strings.Join(missing, ", "); said.allow(msg) {
				log.Info("waiting for custom resource definitions; install them with: kubectl apply -k config/crd",
					"group", v1alpha1.GroupName, "missing", msg)
			}
		default:
			if said.reset() {
				log.Info("the API server serves all kinds of the group", "group", v1alpha1.GroupName)
			}
			return true
		}
		if wait(ctx, kindsPoll) != nil {
			return false
		}
	}
}

// wait returns nil after d, or the error of ctx when it ends before.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
