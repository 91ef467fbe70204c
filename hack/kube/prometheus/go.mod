// Builds Prometheus for the tests in a cluster; see ../cluster/build.sh. Nothing
// imports this module, so `go mod tidy` would empty it: change the version by
// hand, then run
//
//	go list -mod=mod -deps -tags remove_all_sd,enable_kubernetes_sd github.com/prometheus/prometheus/cmd/prometheus >/dev/null
module github.com/ferrum-proxy/ferrum-proxy/hack/kube/prometheus

go 1.26.7

require github.com/prometheus/prometheus v0.316.0
