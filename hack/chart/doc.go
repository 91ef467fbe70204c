// Command chart writes what of the Helm chart follows from other files: the
// README from values.yaml, the copies of the CRDs, and the alerts and the dashboard
// of config/.
//
//	go run ./hack/chart [DIR]
//
// DIR is the root to write below, by default that of the repository; `make
// verify` gives another one and compares. The tests beside it are about the chart
// itself: they run helm on it and hold what it renders.
//
// The package owns charts/ferrum-proxy/README.md, charts/ferrum-proxy/files/crds,
// config/alerts/prometheus_rule.yaml and config/grafana/dashboard.yaml.
// It keeps no state and starts no goroutine.
package main
