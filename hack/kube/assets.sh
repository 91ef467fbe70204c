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

# Versions of hack/kube/module/go.mod.
kubernetes=v1.37.2
etcd=v3.7.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${FERRUM_KUBE_CACHE:-$HOME/.cache/ferrum-kube}
bin=$cache/bin

say() { echo "assets.sh: $*" >&2; }

complete() { [ -x "$1/etcd" ] && [ -x "$1/kube-apiserver" ]; }

# is NAME VERSION - was this binary built in this version?
is() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.version" 2>/dev/null)" = "$2" ]; }

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

# build NAME VERSION LDFLAGS PACKAGE
build() {
	is "$1" "$2" && return
	say "building $1 $2 from source"
	go build -C "$root/hack/kube/module" -mod=readonly -trimpath -ldflags "-s -w $3" -o "$bin/$1" "$4"
	echo "$2" >"$bin/.$1.version"
}

build_all() {
	# Without these the API server reports v0.0.0, and clients that look at the
	# version go wrong.
	local minor=${kubernetes#v1.} base=k8s.io/component-base/version client=k8s.io/client-go/pkg/version
	minor=${minor%.*}
	local flags="" package
	for package in $base $client; do
		flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
	done
	flags+=" -X $base.gitTreeState=clean"
	# GOFLAGS of the caller (-mod=mod, -race) would change another module or miss
	# its build cache.
	export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
	mkdir -p "$bin"
	build etcd $etcd "" go.etcd.io/etcd/server/v3
	build kube-apiserver $kubernetes "$flags" k8s.io/kubernetes/cmd/kube-apiserver
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

mkdir -p "$cache"
# One at a time: a second build would take the cores from the first.
if command -v flock >/dev/null; then
	exec 9>"$cache/lock"
	flock -n 9 || { say "waiting for another assets.sh"; flock 9; }
	present && exit
fi
fetch && exit
say "setup-envtest cannot fetch a release; building instead, 7 to 8 minutes the first time"
build_all
present
