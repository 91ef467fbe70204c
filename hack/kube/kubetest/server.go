package kubetest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// startTimeout bounds the start and the stop of each process. An idle machine
// takes 3 to 4 s for both together; the margin is for a loaded one.
const startTimeout = 2 * time.Minute

// Server is an API server with its own etcd.
type Server struct {
	env  *envtest.Environment
	conf *rest.Config
	dir  string
	leash
}

type options struct {
	withoutCRDs bool
}

// Option changes what Start does.
type Option func(*options)

// WithoutCRDs starts a server that knows only the built-in kinds. InstallCRDs
// adds the others.
func WithoutCRDs() Option {
	return func(o *options) { o.withoutCRDs = true }
}

// Start starts a server that ends with the test.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := start(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stop the test API server: %v", err)
		}
	})
	return s
}

var shared struct {
	sync.Mutex
	managed bool // Main is there to stop the server
	server  *Server
	err     error
}

// Main runs the tests of a binary and ends the shared server after them. It is
// the body of TestMain and does not return.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	shared.managed = true
	code := m.Run()
	if shared.server == nil {
		return code
	}
	if err := shared.server.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the shared test API server:", err)
		return max(code, 1)
	}
	return code
}

// Shared returns the server that all tests of the binary use. The first call
// starts it. A binary that calls it needs Main in its TestMain.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.managed {
		t.Fatal("kubetest.Shared needs func TestMain(m *testing.M) { kubetest.Main(m) } in this package")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

func start(opts ...Option) (_ *Server, err error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	assets, err := findAssets()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := s.leash.tie(dir); err != nil {
		return nil, err
	}
	if err := s.prepare(assets); err != nil {
		return nil, err
	}
	if !o.withoutCRDs {
		if s.env.CRDs, err = readCRDs(); err != nil {
			return nil, err
		}
	}
	conf, err := s.env.Start()
	if err != nil {
		return nil, fmt.Errorf("start the test API server from %s: %w", assets, err)
	}
	s.conf = conf
	return s, nil
}

// prepare gives both processes directories of ours, so that a stopped API
// server finds its certificates and etcd its data again.
func (s *Server) prepare(assets string) error {
	s.env = &envtest.Environment{
		UseExistingCluster:       new(false), // whatever USE_EXISTING_CLUSTER says: tests install and delete at will
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  startTimeout,
	}
	s.env.ControlPlane.Etcd = &envtest.Etcd{DataDir: filepath.Join(s.dir, "etcd")}
	api := s.env.ControlPlane.GetAPIServer()
	api.CertDir = filepath.Join(s.dir, "apiserver")
	// A /24, envtest's, is used up by 250 Services, of which none is ever deleted.
	api.Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	for _, dir := range []string{s.env.ControlPlane.Etcd.DataDir, api.CertDir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.env.ControlPlane.Etcd.Path, err = s.leash.wrap(filepath.Join(assets, "etcd")); err != nil {
		return err
	}
	api.Path, err = s.leash.wrap(filepath.Join(assets, "kube-apiserver"))
	return err
}

// stop ends both processes and removes what they wrote. It may be called in any
// state.
func (s *Server) stop() error {
	var err error
	if s.env != nil {
		err = s.env.Stop()
	}
	return errors.Join(err, s.leash.untie(), os.RemoveAll(s.dir))
}

// Config returns a copy of the configuration of a client that may do
// everything. It stays valid over StopAPI and StartAPI.
func (s *Server) Config() *rest.Config {
	return rest.CopyConfig(s.conf)
}

// Kubeconfig writes the same credentials to a file for --kubeconfig and returns
// its path. The file goes away with the test.
func (s *Server) Kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, s.env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// UserConfig returns the configuration of a client that is the named user and
// nothing more: it may do what RBAC objects in the server let it do.
func (s *Server) UserConfig(t testing.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	user, err := s.env.AddUser(envtest.User{Name: name, Groups: groups}, &rest.Config{QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return user.Config()
}

// Scheme returns a new scheme with the built-in kinds, ours, Gateway API's and
// CustomResourceDefinitions.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, gatewayv1.Install, apiextensionsv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // two packages register the same kind: a fault of this function
		}
	}
	return s
}

// Client returns a client without a cache that knows the kinds of Scheme.
func (s *Server) Client(t testing.TB) client.Client {
	t.Helper()
	c, err := client.New(s.conf, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Namespace creates a namespace with a fresh name and the given labels, which
// may be nil, and returns its name. It is not deleted: nothing would empty it.
func (s *Server) Namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: maps.Clone(labels)}}
	if err := s.Client(t).Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// StopAPI ends the API server process and waits for its end. etcd keeps running
// with the data.
func (s *Server) StopAPI(t testing.TB) {
	t.Helper()
	if err := s.env.ControlPlane.APIServer.Stop(); err != nil {
		t.Fatalf("stop the test API server: %v", err)
	}
}

// KillAPI ends the API server process with SIGKILL and waits until it is gone:
// nothing is said to those who are connected. StartAPI starts it again.
func (s *Server) KillAPI(t testing.TB) {
	t.Helper()
	if err := s.leash.kill("kube-apiserver"); err != nil {
		t.Fatalf("kill the test API server: %v", err)
	}
}

// StartAPI starts the API server again, at the same address and with the same
// credentials and data, and waits until it is healthy.
func (s *Server) StartAPI(t testing.TB) {
	t.Helper()
	if err := s.env.ControlPlane.APIServer.Start(); err != nil {
		t.Fatalf("start the test API server again: %v", err)
	}
}

// InstallCRDs installs the CustomResourceDefinitions into a server that was
// started without, and waits until they are served.
func (s *Server) InstallCRDs(t testing.TB) {
	t.Helper()
	crds, err := readCRDs()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envtest.InstallCRDs(s.conf, envtest.CRDInstallOptions{CRDs: crds}); err != nil {
		t.Fatalf("install the CustomResourceDefinitions: %v", err)
	}
}
