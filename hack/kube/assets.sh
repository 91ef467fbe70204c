#!/usr/bin/env bash
# assets.sh [--no-build] - prints the directory of the etcd and kube-apiserver
# that tests run against, after getting them if need be.
#
# In this order: KUBEBUILDER_ASSETS if set; what an earlier call got; a download
# by setup-envtest, given up after 20 s; a build from source, out of the Go module
# proxy alone (7 to 8 minutes on 2 cores, once, some 2 GB of build cache).
# With --no-build only the first two.
#
# What is built goes to ${FERRUM_KUBE_CACHE:-~/.cache/ferrum-kube}/bin. A second
# call takes milliseconds.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/source.sh"

complete() { [ -x "$1/etcd" ] && [ -x "$1/kube-apiserver" ]; }

# present prints the directory of an earlier call, if there is one.
present() {
	local fetched
	if is etcd $etcd && is kube-apiserver $kubernetes; then
		echo "$bin"
	elif fetched=$(cat "$cache/fetched-$kubernetes" 2>/dev/null) && complete "$fetched"; then
		echo "$fetched"
	else
		return 1
	fi
}

# fetch downloads a release of the same minor version; needs internet.
fetch() {
	local minor=${kubernetes#v} dir limit=()
	go build -C "$root" -modfile=hack/tools/go.mod -o "$cache/setup-envtest" \
		sigs.k8s.io/controller-runtime/tools/setup-envtest || return 1
	command -v timeout >/dev/null && limit=(timeout 20)
	dir=$(${limit[@]+"${limit[@]}"} "$cache/setup-envtest" use -p path "${minor%.*}.x" 2>/dev/null) || return 1
	complete "$dir" || return 1
	echo "$dir" >"$cache/fetched-$kubernetes"
	echo "$dir"
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
	complete "$KUBEBUILDER_ASSETS" || { say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks etcd or kube-apiserver"; exit 1; }
	echo "$KUBEBUILDER_ASSETS"
	exit
fi
present && exit
if [ "${1:-}" = --no-build ]; then
	say "etcd and kube-apiserver $kubernetes are not in $cache yet"
	exit 1
fi

exec 9>"$(lockfile)"
alone 9
present && exit
fetch && exit
say "setup-envtest cannot fetch a release; building instead, 7 to 8 minutes the first time"
build etcd $etcd "" go.etcd.io/etcd/server/v3
build kube-apiserver $kubernetes "$(kubernetes_flags)" k8s.io/kubernetes/cmd/kube-apiserver
present
