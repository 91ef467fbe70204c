//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kill ends the process of a container as a crash does. It is found by its program
// and by the name of its Pod, which is its host name.
func kill(t *testing.T, program, pod string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // processes come and go
		environ, _ := os.ReadFile(file)
		if !bytes.HasPrefix(cmdline, []byte(program+"\x00")) || !slices.Contains(strings.Split(string(environ), "\x00"), "HOSTNAME="+pod) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no process %s in %s", program, pod)
}

// webPods returns the names of the Pods of web and their addresses, once those that
// go have gone.
func webPods(t *testing.T) (pods map[string]string) {
	t.Helper()
	eventually(t, "there are 5 Pods", func() error {
		if pods = addresses(t, "shop", "app=web"); len(pods) != 5 {
			return fmt.Errorf("%d", len(pods))
		}
		return nil
	})
	return pods
}

// losesPods takes one Pod after the other. What was on a connection to it is sent
// to another one, under a policy that retries what a Pod may have begun with.
func losesPods(t *testing.T) {
	edited := route("api2")
	apply(t, strings.Replace(edited, "- backendRefs", "- retry: {conditions: [Reset]}\n    backendRefs", 1))
	defer apply(t, edited)
	time.Sleep(2 * time.Second) // every replica serves it
	for _, c := range []struct {
		what string
		end  func(pod string)
	}{
		{"killed", func(pod string) { kill(t, "/backend", pod) }},
		{"deleted without grace", func(pod string) { kubectl(t, "-n", "shop", "delete", "pod", pod, "--grace-period=0", "--force") }},
	} {
		l := startLoad(http.MethodGet)
		for _, pod := range slices.Sorted(maps.Keys(webPods(t)))[:3] {
			c.end(pod)
			time.Sleep(2 * time.Second) // the kubelet has seen it, and one Pod at a time is away
		}
		kubectl(t, "-n", "shop", "rollout", "status", "deployment/web", "--timeout=1m")
		l.mustLoseNothing(t, "3 of 5 Pods "+c.what)
	}
}

// losesReadiness makes one Pod fail its probe, for which it has to do nothing but
// say so: it would go on answering.
func losesReadiness(t *testing.T) {
	pods := webPods(t)
	name := slices.Min(slices.Collect(maps.Keys(pods)))
	set := func(ready bool) {
		client := &http.Client{Timeout: 5 * time.Second}
		if status, body, err := send(client, http.MethodPost, pods[name]+":8080", host, fmt.Sprintf("/healthz?ready=%t", ready)); err != nil || status != 200 {
			t.Fatalf("%d %q %v", status, body, err)
		}
	}
	l := startLoad(http.MethodPost)
	eventually(t, "the Pod has answered requests", func() error { return atLeast(l.answered(name), 1) })
	begin := time.Now()
	set(false)
	kubectl(t, "-n", "shop", "wait", "--for=condition=Ready=false", "pod/"+name, "--timeout=1m")
	told := time.Since(begin)
	var last int
	quiet := eventually(t, "the Pod gets no more requests", func() error {
		before := l.answered(name)
		time.Sleep(500 * time.Millisecond) // of about 80 requests for each Pod
		if last = l.answered(name); last != before {
			return fmt.Errorf("%d more", last-before)
		}
		return nil
	})
	t.Logf("not ready after %s, without requests at most %s later", told.Round(time.Millisecond), quiet.Round(time.Millisecond))
	set(true)
	eventually(t, "the Pod answers again", func() error { return atLeast(l.answered(name), last+1) })
	l.mustLoseNothing(t, "a Pod not ready for a while")
}

func atLeast(n, want int) error {
	if n < want {
		return fmt.Errorf("%d", n)
	}
	return nil
}

// losesReplica kills a process of the proxy. Each client's connection to it is cut,
// and until the kubelet has started it again, or Services know from its probe that
// it is away, one in three new connections is refused.
func losesReplica(t *testing.T) {
	pods := podAddresses(t)
	name := slices.Max(slices.Collect(maps.Keys(pods))) // not the one that was killed before: that would have to wait
	l := startLoad(http.MethodPost)
	kill(t, "/ferrum", name)
	took := eventually(t, "the replica is back", func() error { _, err := metrics(pods[name]); return err })
	kubectl(t, "-n", namespace, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=1m")
	time.Sleep(2 * time.Second) // for what fails after that
	t.Logf("the replica was back after %s", took.Round(time.Millisecond))
	l.mustLoseAtMost(t, "a replica killed", 5*8) // of 8 clients, with luck much less
}
