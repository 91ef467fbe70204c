#!/usr/bin/env bash
# cluster.sh check | COMMAND... - boots a Kubernetes of one node out of real
# programs (kubelet, containerd, CNI, kube-proxy and the control plane) in
# namespaces of its own, runs COMMAND "on the node" and ends with its exit code.
# All processes and mounts end with it.
#
# COMMAND sees PATH and KUBECONFIG, and the network namespace "client", which
# stands for the world outside: it reaches the node at 198.18.0.1.
#
# Every *.tar (OCI layout) in the directory IMAGES is imported. Logs are in
# RUN/log (default ~/.cache/ferrum-kube/cluster).
#
# "check" says on standard error what this machine lacks, and ends with 1 if
# anything: root with the right to make namespaces, Linux with cgroups v1, and
# Debian's packages of PACKAGES.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/source.sh"

PACKAGES="containerd runc containernetworking-plugins nftables iptables conntrack ethtool socat iproute2 openssl"

check() {
	local lacks=() tool
	[ "$(uname)" = Linux ] || lacks+=("Linux")
	[ "$(id -u)" = 0 ] || lacks+=("root")
	for tool in containerd runc nft iptables conntrack ip openssl unshare nsenter; do
		command -v $tool >/dev/null || lacks+=("$tool")
	done
	[ -x /usr/lib/cni/bridge ] || lacks+=("the CNI plugins")
	# Version 2 would take another boot.sh: one hierarchy, whose root may give its
	# controllers on only once the processes in it have moved into a child.
	[ -d /sys/fs/cgroup/memory ] || lacks+=("cgroups of version 1 at /sys/fs/cgroup (there is: $(stat -fc %T /sys/fs/cgroup 2>&1 || true))")
	unshare --net --mount --pid --cgroup --uts --ipc --fork true 2>/dev/null || lacks+=("the right to make namespaces")
	[ ${#lacks[@]} -eq 0 ] && return
	local list
	printf -v list '%s, ' "${lacks[@]}"
	say "a cluster cannot run here: no ${list%, } (packages: $PACKAGES)"
	return 1
}

# programs builds what is missing and prints the directory of the control plane.
programs() {
	local name missing=()
	for name in kubectl kubelet kube-controller-manager kube-scheduler kube-proxy; do
		is $name $kubernetes || missing+=($name)
	done
	if [ ${#missing[@]} -gt 0 ]; then
		exec 9>"$(lockfile)"
		alone 9
		for name in "${missing[@]}"; do
			build $name $kubernetes "$(kubernetes_flags)" k8s.io/kubernetes/cmd/$name
		done
		exec 9>&-
	fi
	"$root/hack/kube/assets.sh"
}

# sweep removes the directories of cgroups that the Pods had: they outlive the
# namespaces.
sweep() {
	local own
	own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
	for _ in 1 2 3 4 5; do
		find /sys/fs/cgroup/*/kubepods "/sys/fs/cgroup/memory${own%/}/kubepods" -depth -type d -exec rmdir {} + 2>/dev/null && return
		sleep 0.3
	done
}

check || exit 1
[ "${1:-}" != check ] || exit 0
export HERE="$root/hack/kube/cluster" RUN=${RUN:-$cache/cluster} IMAGES=${IMAGES:?directory of image tars}
BIN=$(programs):$bin
export BIN
# One at a time: the processes of two would share paths that cannot be set.
exec 8>"$cache/cluster.lock"
! command -v flock >/dev/null || flock -n 8 || { say "waiting for another cluster"; flock 8; }
rm -rf "$RUN"/{conf,containerd,etcd,kubelet,log,pki}
mkdir -p "$RUN"
ulimit -n "$(ulimit -Hn)"
unshare --net --mount --pid --cgroup --uts --ipc --fork --kill-child=SIGKILL --mount-proc --propagation private \
	"$HERE/boot.sh" "$@" 8>&- &
child=$!
trap 'kill -9 $child 2>/dev/null' INT TERM
status=0
wait $child || status=$?
sweep
exit $status
