package main

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ferrum-proxy/ferrum-proxy/hack/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// The number of Pods is Helm's until the first upgrade with a
// HorizontalPodAutoscaler. A manifest without it would have the API server make it
// 1, until the autoscaler acts.
func TestAutoscalingIsTurnedOnWithoutScalingDown(t *testing.T) {
	s := kubetest.Shared(t)
	kubeconfig := s.Kubeconfig(t)
	for _, how := range []string{"--server-side=true", "--server-side=false"} { // false is how helm 3 does it
		t.Run(how, func(t *testing.T) {
			c, ns := s.Client(t), s.Namespace(t, nil)
			run := func(verb string, more ...string) {
				t.Helper()
				args := []string{verb, "ferrum", chart, how, "--kubeconfig", kubeconfig, "--namespace", ns, "--set", "crds.enabled=false,class.create=false"}
				if out, err := helm(t, append(args, more...)...); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ferrum-ferrum-proxy"}}
			has := func(want int32, when string) {
				t.Helper()
				if err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
					t.Fatal(err)
				}
				if got := *d.Spec.Replicas; got != want {
					t.Fatalf("%s: %d replicas, want %d", when, got, want)
				}
			}
			run("install", "--set", "replicas=3")
			has(3, "installed")
			run("upgrade", "--set", "autoscaling.enabled=true")
			has(3, "autoscaling turned on")
			run("upgrade", "--set", "autoscaling.enabled=true,minReadySeconds=6")
			has(3, "before the autoscaler has acted")
			scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
			if err := c.SubResource("scale").Update(t.Context(), d, client.WithSubResourceBody(scale), client.FieldOwner("kube-controller-manager")); err != nil {
				t.Fatal(err)
			}
			run("upgrade", "--set", "autoscaling.enabled=true,minReadySeconds=7")
			has(5, "after the autoscaler has acted")
			run("upgrade", "--set", "autoscaling.enabled=true,minReadySeconds=8")
			has(5, "and once more")
		})
	}
}
