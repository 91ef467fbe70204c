//go:build cluster

package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAnEditIsProgrammedOnceEachReplicaServesIt asks each replica at the moment at
// which Programmed is True, and cuts one off from the API server.
func TestAnEditIsProgrammedOnceEachReplicaServesIt(t *testing.T) {
	apply(t, shop+backend("web", 1)+backend("api", 1)+backend("api2", 1))
	helm(t, "install", values("--create-namespace")...)
	pods := podAddresses(t)
	if len(pods) != replicas {
		t.Fatalf("replicas %v", pods)
	}
	for n := range 6 {
		apply(t, route([]string{"api", "api2"}[n%2]))
		begin := time.Now()
		kubectl(t, "-n", "shop", "wait", "--for=condition=Programmed", "proxyroute/shop", "--timeout=1m")
		generation := wantedGeneration(t)
		for name, ip := range pods {
			if got, err := servedGeneration(ip); err != nil || got < generation {
				t.Errorf("generation %d is programmed, and %s serves %d: %v", generation, name, got, err)
			}
		}
		t.Logf("generation %d: programmed %s after the edit", generation, time.Since(begin).Round(time.Millisecond))
	}
	if got := kubectl(t, "-n", "shop", "get", "proxyroute", "shop", "-o", "jsonpath={.status.replicas}"); got != `{"programmed":3,"total":3}` {
		t.Errorf("status.replicas %s", got)
	}

	name, mend := cutOffOne(t, pods)
	apply(t, route("api"))
	generation := wantedGeneration(t)
	want := fmt.Sprintf("False behind: %s (%s) serves generation %d", name, pods[name], generation-1)
	eventually(t, "the replica is named", func() error { return programmedIs(want) })
	time.Sleep(5 * time.Second) // five rounds
	if err := programmedIs(want); err != nil {
		t.Error(err)
	}
	if out, err := command("", "kubectl", "-n", "shop", "wait", "--for=condition=Programmed", "proxyroute/shop", "--timeout=1s"); err == nil {
		t.Errorf("kubectl wait with a replica that is cut off: %s", out)
	}
	mend()
	back := eventually(t, "the replica serves it", func() error {
		got, err := servedGeneration(pods[name])
		if err == nil && got < generation {
			err = fmt.Errorf("it serves generation %d", got)
		}
		return err
	})
	took := eventually(t, "the route is programmed", func() error { return programmedIs("True every ready replica serves this generation") })
	t.Logf("served %s after the network was mended, programmed %s after that", back.Round(time.Millisecond), took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Error("that is too long")
	}

	helm(t, "uninstall", "--wait", "--timeout", "3m")
	waitForPods(t, 0)
	kubectl(t, "delete", "crds", "--selector", "app.kubernetes.io/name=ferrum-proxy") // the next test begins without
}

// wantedGeneration returns the generation of the route in the API server.
func wantedGeneration(t *testing.T) (n int64) {
	t.Helper()
	out := kubectl(t, "-n", "shop", "get", "proxyroute", "shop", "-o", "jsonpath={.metadata.generation}")
	if _, err := fmt.Sscan(out, &n); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return n
}

// servedGeneration asks the admin port of a Pod for the generation of the route.
func servedGeneration(ip string) (int64, error) {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + net.JoinHostPort(ip, "9090") + "/debug/routes")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var routes []struct {
		Namespace, Name string
		Generation      int64
	}
	if err := json.NewDecoder(res.Body).Decode(&routes); err != nil {
		return 0, err
	}
	for _, r := range routes {
		if r.Namespace == "shop" && r.Name == "shop" {
			return r.Generation, nil
		}
	}
	return 0, fmt.Errorf("it serves %v", routes)
}

// programmedIs returns an error unless Programmed, of the latest generation, has
// the status and message.
func programmedIs(want string) error {
	const path = `jsonpath={.metadata.generation}{" "}{range .status.conditions[?(@.type=="Programmed")]}{.observedGeneration}{" "}{.status}{" "}{.message}{end}`
	out, err := command("", "kubectl", "-n", "shop", "get", "proxyroute", "shop", "-o", path)
	if err != nil {
		return err
	}
	words := strings.SplitN(out, " ", 3)
	if len(words) != 3 || words[0] != words[1] || words[2] != want {
		return fmt.Errorf("generation, observed, status and message are %q, want %q", out, want)
	}
	return nil
}

// cutOffOne drops what goes between the API server and a replica that does not
// write statuses, until mend.
func cutOffOne(t *testing.T, pods map[string]string) (name string, mend func()) {
	t.Helper()
	holder := kubectl(t, "-n", namespace, "get", "lease", "ferrum-ferrum-proxy-status-writer", "-o", "jsonpath={.spec.holderIdentity}")
	for pod := range pods {
		if !strings.HasPrefix(holder, pod+"_") {
			name = pod
		}
	}
	// On the node, where the API server is: traffic to its Service gets here, too.
	rules := fmt.Sprintf(`table ip cutoff {
		chain from { type filter hook input priority -10; ct original ip saddr %[1]s tcp dport 6443 drop; }
		chain to { type filter hook output priority -10; ct original ip saddr %[1]s tcp sport 6443 drop; }
	}`, pods[name])
	if _, err := command(rules, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	return name, func() { must(t, "nft", "delete", "table", "ip", "cutoff") }
}
