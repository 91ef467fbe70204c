#!/usr/bin/env bash
# run.sh [PATTERN] - the tests of hack/e2e/cluster (those whose names match PATTERN)
# in a real cluster, with the image and the chart of this checkout. Ends with 75
# where no cluster can run, after saying why.
#
# First it builds what they need; that is not counted. The tests then have
# E2E_MINUTES (25) from when they start, and the whole cluster 5 more, so that one
# that hangs can still be looked at. When a test fails, its output and the logs of
# the cluster and of its Pods stay in bin/e2e.
#
# The cluster ends with run.sh, however that ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kube=hack/kube
source $kube/source.sh
minutes=${E2E_MINUTES:-25}

$kube/cluster.sh check || exit 75
out=$PWD/bin/e2e-$$ # two may run at once
for dir in bin/e2e-*; do
	[ -d "/proc/${dir##*-}" ] || rm -rf "$dir" # of one that was killed
done
mkdir -p "$out/images"
cluster=
finish() {
	trap '' INT TERM HUP
	[ -z "$cluster" ] || kill "$cluster" 2>/dev/null || true
	wait
	rm -rf "$out"
}
trap finish EXIT

platform=linux/$(go env GOARCH)
image() { "${bound[@]}" go run ./hack/image -platform "$platform" -name "$1" -o "$out/images/$2.tar" "${@:3}" >&2; }
"${bound[@]}" $kube/cluster.sh build
"${bound[@]}" $kube/helm.sh >/dev/null
helm=$($kube/helm.sh --no-build)
image lab.local/pause:1 pause ./hack/kube/pause
image lab.local/backend:1 backend ./hack/e2e/backend
image lab.local/ferrum:e2e ferrum -ldflags '-s -w -X main.version=e2e' ./cmd/ferrum -- run
CGO_ENABLED=0 "${bound[@]}" go test -c -tags cluster -o "$out/cluster.test" ./hack/e2e/cluster
case "${1:-}" in *Prometheus*)
	"${bound[@]}" $kube/prometheus.sh
	image lab.local/prometheus:1 prometheus -prebuilt -dir /bin "$bin/prometheus"
	image lab.local/config-reloader:1 config-reloader -prebuilt -dir /bin "$bin/prometheus-config-reloader"
	OPERATOR_CRDS=$(go list -C $kube/operator -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)/example/prometheus-operator-crd
	export OPERATOR_CRDS
	;;
esac
say "everything was built after $SECONDS s"

# On SIGTERM, which cluster.sh also gets when this script is killed, it cleans up.
exec 3> >(exec tee -i "$out/tests.log")
tee=$!
LIMIT=$((minutes + 5))m LOGS=$out/log IMAGES=$out/images CHART=$PWD/charts/ferrum-proxy PATH=$(dirname "$helm"):$PATH \
	setpriv --pdeathsig TERM $kube/cluster.sh hack/e2e/inside.sh \
	"$out/cluster.test" -test.v -test.failfast -test.timeout "${minutes}m" -test.run "${1:-.}" >&3 3>&- &
cluster=$!
exec 3>&-
status=0
wait $cluster || status=$?
cluster=
wait $tee
say "ended after $SECONDS s"
[ $status -ne 0 ] || exit 0

say "failed ($status); the logs are in bin/e2e"
grep -E '^ *--- FAIL|^panic' "$out/tests.log" >&2 || true
rm -rf "$out/images" "$out/cluster.test" bin/e2e
mv "$out" bin/e2e
exit $status
