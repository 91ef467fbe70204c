// Builds the Prometheus Operator for the tests in a cluster; see
// ../cluster/build.sh. Nothing imports this module, so `go mod tidy` would empty
// it: change the version by hand, then run
//
//	go list -mod=mod -deps github.com/prometheus-operator/prometheus-operator/cmd/operator github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader >/dev/null
module github.com/ferrum-proxy/ferrum-proxy/hack/kube/operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
