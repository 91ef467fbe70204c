package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/manifests"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

func exampleJob(t *testing.T, routes int) job {
	return job{
		Listen: "127.0.0.1:21001", Admin: "127.0.0.1:21002", Dir: t.TempDir(), Backends: []string{"127.0.0.1:21003", "127.0.0.1:21004"},
		Workers: 1, Clients: 128, AccessLog: routes > 0, Root: routes > 0, Routes: routes,
	}
}

func TestFerrumsManifestsHaveNothingToComplainAbout(t *testing.T) {
	ferrum := proxies()[0]
	for routes, rules := range map[int]int{0: 1, 20: 20 * rulesPerHost} {
		j := exampleJob(t, routes)
		j.Retries = routes == 0
		if err := ferrum.writeConfigs(j); err != nil {
			t.Fatal(err)
		}
		if routes == 0 { // the route of the swaps scenario fits in, too
			if err := os.WriteFile(filepath.Join(j.Dir, "swap.yaml"), []byte(swapManifest(1)), 0o644); err != nil {
				t.Fatal(err)
			}
			rules++
		}
		snapshot, problems := manifests.Load(j.Dir)
		if len(problems) > 0 {
			t.Error(problems[0])
		}
		got := 0
		result := translate.Build(snapshot)
		for _, r := range result.Plan.Routes {
			got += len(r.Rules)
		}
		for name, v := range result.Verdicts.Routes {
			for _, c := range v.Conditions {
				if (c.Type == v1alpha1.ConditionConflicted) != (c.Status == metav1.ConditionFalse) {
					t.Errorf("%s: %+v", name, c)
				}
			}
		}
		if got != rules {
			t.Errorf("%d hosts: %d rules, want %d", routes, got, rules)
		}
	}
}

func TestEveryProxyIsToldItsJob(t *testing.T) {
	for _, p := range proxies() {
		for _, routes := range []int{0, 20} {
			j := exampleJob(t, routes)
			j.Retries = p.retries
			if err := p.writeConfigs(j); err != nil {
				t.Fatal(err)
			}
			told := strings.Join(p.args(j), " ")
			for _, name := range p.configs {
				data, err := os.ReadFile(filepath.Join(j.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				told += string(data)
				if filepath.Ext(name) == ".yaml" && name != "ferrum.yaml" {
					var doc map[string]any
					if err := yaml.Unmarshal(data, &doc); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			want := []string{"21001", "21003", "21004"} // ports: not all write addresses alike
			if p.retries && routes == 0 {
				want = append(want, "503")
			}
			if routes > 0 {
				want = append(want, manyHost(0), manyHost(19), manyPrefix(rulesPerHost-1))
			}
			for _, w := range want {
				if !strings.Contains(told, w) {
					t.Errorf("%s, %d hosts: is not told of %s", p.name, routes, w)
				}
			}
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	if _, err := choose("scenario", "healthy_get,swap", scenarios()); err == nil || !strings.Contains(err.Error(), `no scenario "swap"`) {
		t.Errorf("got %v, want an error that names swap", err)
	}
	got, err := choose("peer", "haproxy,nginx", proxies())
	if err != nil || strings.Join(names(got), ",") != "nginx,haproxy" {
		t.Errorf("got %v, %v, want nginx and haproxy in their usual order", names(got), err)
	}
}
