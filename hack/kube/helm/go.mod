// Builds helm for the tests of the chart; see ../helm.sh. Nothing imports this
// module, so `go mod tidy` would empty it: change the version by hand, then run
//
//	go list -mod=mod -deps helm.sh/helm/v4/cmd/helm >/dev/null
module github.com/ferrum-proxy/ferrum-proxy/hack/kube/helm

go 1.26.0

require helm.sh/helm/v4 v4.3.1
