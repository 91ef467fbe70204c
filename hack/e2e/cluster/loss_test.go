//go:build cluster

package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// webPods waits until web has its 5 Pods, all of them ready, and no others.
func webPods(t *testing.T) []corev1.Pod {
	t.Helper()
	return onlyReady(t, "shop", "app=web", 5)
}

// losesPods takes one Pod after the other. What was on a connection to it is sent
// to another one, under a policy that retries what a Pod may have begun with.
func losesPods(t *testing.T) {
	edited := route("api2")
	apply(t, strings.Replace(edited, "- backendRefs", "- retry: {conditions: [Reset]}\n    backendRefs", 1))
	defer apply(t, edited)
	await(t, "shop", "Programmed", "proxyroute/shop") // every replica serves it
	for _, c := range []struct {
		what string
		end  func(corev1.Pod)
	}{
		{"killed", func(p corev1.Pod) { kill(t, "/backend", p.Name) }},
		{"deleted without grace", func(p corev1.Pod) { kubectl(t, "-n", "shop", "delete", "pod", p.Name, "--grace-period=0", "--force") }},
	} {
		l := startLoad(http.MethodGet)
		for _, p := range webPods(t)[:3] {
			c.end(p)
			startsAgain(t, p) // one is away at a time, however long that is
			webPods(t)
		}
		l.mustLoseNothing(t, "3 of 5 Pods "+c.what)
	}
}

// startsAgain waits until the kubelet has started a Pod's container again, or the Pod
// is gone. What is known of it before may be from before its end.
func startsAgain(t *testing.T, was corev1.Pod) time.Duration {
	t.Helper()
	return eventually(t, was.Name+" is not as it was", func() error {
		for _, p := range pods(t, was.Namespace, "") {
			if p.Name == was.Name && restarts(p) == restarts(was) {
				return errors.New("its container is the same")
			}
		}
		return nil
	})
}

// losesReadiness makes one Pod fail its probe, for which it has to do nothing but
// say so: it would go on answering.
func losesReadiness(t *testing.T) {
	pod := webPods(t)[0]
	set := func(ready bool) {
		if status, body, err := send(admin, http.MethodPost, pod.Status.PodIP+":8080", host, fmt.Sprintf("/healthz?ready=%t", ready)); err != nil || status != 200 {
			t.Fatalf("%d %q %v", status, body, err)
		}
	}
	l := startLoad(http.MethodPost)
	eventually(t, "the Pod has answered requests", func() error { by, _ := l.answeredBy(pod.Name); return atLeast(by, 1) })
	begin := time.Now()
	set(false)
	await(t, "shop", "Ready=false", "pod/"+pod.Name)
	told := time.Since(begin)
	// One request in five was the Pod's.
	last, others := l.answeredBy(pod.Name)
	quiet := eventually(t, "the Pod gets none of 200 requests", func() error {
		by, rest := l.answeredBy(pod.Name)
		if by != last {
			last, others = by, rest
		}
		return atLeast(rest-others, 200)
	})
	t.Logf("not ready after %s, none of 200 requests %s later", told.Round(time.Millisecond), quiet.Round(time.Millisecond))
	set(true)
	eventually(t, "the Pod answers again", func() error { by, _ := l.answeredBy(pod.Name); return atLeast(by, last+1) })
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
	all := replicasOnly(t, replicas)
	fewest := func(a, b corev1.Pod) int { return cmp.Compare(restarts(a), restarts(b)) }
	pod := slices.MinFunc(all, fewest) // one that was killed before would have to wait
	l := startLoad(http.MethodPost)
	kill(t, "/ferrum", pod.Name)
	took := startsAgain(t, pod)
	replicasOnly(t, replicas)
	t.Logf("the replica had started again after %s", took.Round(time.Millisecond))
	// Each of 8 clients fails once for its connection, and then at each try with a
	// chance of one in three, however long the replica is away.
	l.mustLoseAtMost(t, "a replica killed", 5*8)
}
