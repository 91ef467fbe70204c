package kubetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	Main(m)
}

func route(namespace, name string) *v1alpha1.ProxyRoute {
	return &v1alpha1.ProxyRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ProxyRouteSpec{Rules: []v1alpha1.RouteRule{{
			BackendRefs: []v1alpha1.BackendRef{{Name: "web", Port: intstr.FromInt32(80)}},
		}}},
	}
}

func TestSharedServerServesOurKindsAndReferenceGrants(t *testing.T) {
	s := Shared(t)
	if Shared(t) != s {
		t.Error("the second call started another server")
	}
	c, ns := s.Client(t), s.Namespace(t, map[string]string{"team": "a"})
	if err := c.Create(t.Context(), route(ns, "r")); err != nil {
		t.Error(err)
	}
	for _, list := range []client.ObjectList{
		&v1alpha1.ProxyRouteList{}, &v1alpha1.BackendPolicyList{}, &v1alpha1.ProxyClassList{}, &gatewayv1.ReferenceGrantList{},
	} {
		if err := c.List(t.Context(), list); err != nil {
			t.Error(err)
		}
	}
	var got corev1.Namespace
	if err := c.Get(t.Context(), client.ObjectKey{Name: ns}, &got); err != nil || got.Labels["team"] != "a" {
		t.Errorf("namespace %s: labels %v, error %v", ns, got.Labels, err)
	}
}

func TestUserHasOnlyTheRightsOfRBAC(t *testing.T) {
	s := Shared(t)
	c, err := client.New(s.UserConfig(t, "nobody"), client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	err = c.List(t.Context(), &v1alpha1.ProxyRouteList{})
	if err == nil || !strings.Contains(err.Error(), `User "nobody" cannot list resource "proxyroutes"`) {
		t.Errorf("error %v, want a refusal that names the user", err)
	}
}

func TestStoppedAPIServerComesBackWithItsAddressAndData(t *testing.T) {
	s := Start(t)
	c, ns := s.Client(t), s.Namespace(t, nil)
	if err := c.Create(t.Context(), route(ns, "before")); err != nil {
		t.Fatal(err)
	}
	host, err := url.Parse(s.Config().Host)
	if err != nil {
		t.Fatal(err)
	}

	s.StopAPI(t)
	if conn, err := net.Dial("tcp", host.Host); err == nil {
		_ = conn.Close()
		t.Errorf("%s still accepts connections after StopAPI", host.Host)
	}
	s.StartAPI(t)

	if err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "before"}, &v1alpha1.ProxyRoute{}); err != nil {
		t.Errorf("with the client from before the stop: %v", err)
	}
	if got := s.Config().Host; got != host.String() {
		t.Errorf("address %s, was %s", got, host)
	}
}

func TestDefinitionsCanComeAfterTheStart(t *testing.T) {
	s := Start(t, WithoutCRDs())
	list := func() error { return s.Client(t).List(t.Context(), &v1alpha1.ProxyRouteList{}) }
	if err := list(); !meta.IsNoMatchError(err) {
		t.Errorf("before InstallCRDs: %v, want that the kind is not known", err)
	}
	s.InstallCRDs(t)
	if err := list(); err != nil {
		t.Errorf("after InstallCRDs: %v", err)
	}
}

// A test binary that ran into its -timeout left an API server and an etcd of
// 300 MB behind, every time.
func TestProcessesDieWithTheirTestBinary(t *testing.T) {
	tail, err := exec.LookPath("tail")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var l leash
	if err := l.tie(dir); err != nil {
		t.Fatal(err)
	}
	path, err := l.wrap(tail)
	if err != nil {
		t.Fatal(err)
	}
	ours := startProcess(t, path, "-f", os.DevNull, dir+"/tail.sh")
	// Notes of processes that ended before: their ids may belong to others now.
	stranger := startProcess(t, tail, "-f", os.DevNull)
	for name, pid := range map[string]int{"old.pid": stranger.Process.Pid, "gone.pid": 1 << 30} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(context.Context) (bool, error) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", ours.Process.Pid))
		return filepath.Base(exe) != "sh" && filepath.Base(exe) != "dash" && filepath.Base(exe) != "bash", err
	})
	if err != nil {
		t.Fatalf("the script did not become the binary: %v", err)
	}

	// The kernel closes the pipe of a binary that is gone just as untie does.
	if err := l.untie(); err != nil {
		t.Errorf("the guard: %v", err)
	}

	if err := ours.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("our process: %v, want that it was killed", err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process of somebody else: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory: %v, want that it is gone", err)
	}
}

func startProcess(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}
