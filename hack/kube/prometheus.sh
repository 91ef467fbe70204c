#!/usr/bin/env bash
# prometheus.sh - builds Prometheus, which knows Kubernetes and no other discovery,
# its operator and the operator's reloader into the cache of assets.sh (4 to 6
# minutes on 2 cores, once).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/source.sh"

exec 9>"$(lockfile)"
alone 9
build prometheus $prometheus "-X github.com/prometheus/common/version.Version=3.16.0" \
	github.com/prometheus/prometheus/cmd/prometheus "$root/hack/kube/prometheus" remove_all_sd,enable_kubernetes_sd
build prometheus-operator $operator "" \
	github.com/prometheus-operator/prometheus-operator/cmd/operator "$root/hack/kube/operator"
build prometheus-config-reloader $operator "" \
	github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader "$root/hack/kube/operator"
