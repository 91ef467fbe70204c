#!/usr/bin/env bash
# run.sh [PATTERN] - the tests of hack/e2e/cluster (those whose names match PATTERN)
# in a real cluster, with the image and the chart of this checkout. Ends with 75
# where no cluster can run, after saying why.
#
# When it fails, the logs of the cluster and of its Pods stay in bin/e2e.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kube=hack/kube
out=$PWD/bin/e2e
limit=${E2E_TIMEOUT:-15m}

$kube/cluster.sh check || exit 75
rm -rf "$out"
mkdir -p "$out/images"

platform=linux/$(go env GOARCH)
image() { go run ./hack/image -platform "$platform" -name "$1" -o "$out/images/$2.tar" "${@:3}" >&2; }
image lab.local/pause:1 pause ./hack/kube/pause
image lab.local/backend:1 backend ./hack/e2e/backend
image lab.local/ferrum:e2e ferrum -ldflags '-s -w -X main.version=e2e' ./cmd/ferrum -- run
CGO_ENABLED=0 go test -c -tags cluster -o "$out/cluster.test" ./hack/e2e/cluster
helm=$($kube/helm.sh)
case "${1:-}" in *Prometheus*)
	$kube/prometheus.sh
	bin=${FERRUM_KUBE_CACHE:-$HOME/.cache/ferrum-kube}/bin
	image lab.local/prometheus:1 prometheus -prebuilt -dir /bin "$bin/prometheus"
	image lab.local/config-reloader:1 config-reloader -prebuilt -dir /bin "$bin/prometheus-config-reloader"
	OPERATOR_CRDS=$(go list -C $kube/operator -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)/example/prometheus-operator-crd
	export OPERATOR_CRDS
	;;
esac

status=0
run=${FERRUM_KUBE_CACHE:-$HOME/.cache/ferrum-kube}/cluster
RUN=$run IMAGES=$out/images CHART=$PWD/charts/ferrum-proxy PATH=$(dirname "$helm"):$PATH \
	timeout --foreground --kill-after=30s "$limit" \
	$kube/cluster.sh hack/e2e/inside.sh "$out/cluster.test" -test.v -test.failfast -test.timeout "$limit" -test.run "${1:-.}" |
	tee "$out/tests.log" || status=$?

if [ $status -ne 0 ]; then
	echo "== failed ($status); the logs are in bin/e2e" >&2
	grep -E '^ *--- FAIL|^panic' "$out/tests.log" >&2 || true
	mv "$run/log" "$out/log" || true
	rm -rf "$out/images" "$out/cluster.test"
else
	rm -rf "$out"
fi
rm -rf "$run"
exit $status
