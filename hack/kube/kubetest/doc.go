// Package kubetest gives tests a real API server: the etcd and kube-apiserver
// of envtest, with the CustomResourceDefinitions of this repository and the
// ReferenceGrant of Gateway API installed.
//
// One server per test binary is enough for most tests. Its TestMain is
//
//	func TestMain(m *testing.M) { kubetest.Main(m) }
//
// after which every test shares one server, started by the first that asks:
//
//	s := kubetest.Shared(t)
//	c := s.Client(t)                  // client.Client, knows every kind we watch
//	ns := s.Namespace(t, nil)         // its own namespace, with a fresh name
//
// A test that takes the API server away, or starts without the definitions,
// has one of its own, which ends with the test:
//
//	s := kubetest.Start(t, kubetest.WithoutCRDs())
//	s.InstallCRDs(t)
//	s.StopAPI(t)                      // connections to it break, its port refuses
//	s.StartAPI(t)                     // same address, same credentials, same data
//	s.KillAPI(t)                      // kill -9, for good
//
// There are no controllers behind the API server: namespaces are never emptied,
// Services get no EndpointSlices, and nothing is garbage collected. Addresses in
// EndpointSlices may not be loopback; a test that serves traffic maps them with
// a dialer of its own.
//
// The package owns the processes and the directory that they work in. Both go
// away with the test binary, also when it panics or is killed. Servers may be
// used by several tests at once, except for StopAPI and StartAPI.
package kubetest
