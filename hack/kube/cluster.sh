#!/usr/bin/env bash
# cluster.sh check | build | COMMAND... - boots a Kubernetes of one node out of real
# programs (kubelet, containerd, CNI, kube-proxy and the control plane) in
# namespaces of its own, runs COMMAND "on the node" and ends with its exit code.
#
# COMMAND sees PATH and KUBECONFIG, and the network namespace "client", which
# stands for the world outside: it reaches the node at 198.18.0.1.
#
# Every *.tar (OCI layout) in the directory IMAGES is imported. All the cluster
# writes is in RUN (default ~/.cache/ferrum-kube/cluster), its logs in RUN/log. One
# cluster runs at a time; another waits, and empties RUN before it boots. If COMMAND
# fails, the logs move to LOGS, if set, which replaces what was there. After LIMIT
# (of sleep(1); none by default), counted from the boot, it ends with 124.
#
# All processes and mounts end with cluster.sh, however that ends. Only when it was
# killed with SIGKILL do empty directories of cgroups stay, until the next run.
#
# "build" builds the programs, if need be. "check" says on standard error what this
# machine lacks, and ends with 1 if anything: root with the right to make namespaces,
# Linux 5.13 with cgroups of version 1 or 2, and Debian's packages of PACKAGES. It
# makes the namespaces for a moment, with their mounts and network.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/source.sh"
source "$root/hack/kube/cluster/cgroups.sh"

PACKAGES="containerd runc containernetworking-plugins nftables iptables conntrack ethtool socat iproute2 openssl"
export HERE="$root/hack/kube/cluster" RUN=${RUN:-$cache/cluster} BIN=$bin

# namespaces COMMAND... - runs it in new ones as process 1, with the cgroup CGROUP
# (of version 2; empty for the caller's own of version 1) as their root.
namespaces=("${bound[@]}" unshare --net --mount --pid --uts --ipc --fork --kill-child=SIGKILL --mount-proc --propagation private
	bash -c '[ -z "$CGROUP" ] || echo $$ >"$CGROUP/cgroup.procs"; exec unshare --cgroup "$0" "$@"')

own_cgroup=/sys/fs/cgroup/ferrum-kube.$$

# cgroup sets CGROUP.
cgroup() {
	export CGROUP=
	if [ "$(cgroup_version)" = 2 ]; then
		CGROUP=$own_cgroup
		make_cgroup "$CGROUP"
	fi
}

# check leaves in the array lacks what the machine lacks.
check() {
	local tool controllers
	lacks=()
	[ "$(uname)" = Linux ] || { lacks+=("Linux"); return; }
	# kube-proxy wants it for nftables, of which it also wants a version of that time.
	printf '5.13\n%s\n' "$(uname -r)" | sort -CV || lacks+=("Linux 5.13 or later")
	[ "$(id -u)" = 0 ] || lacks+=("root")
	for tool in containerd runc nft iptables conntrack ip openssl unshare setpriv flock; do
		command -v $tool >/dev/null || lacks+=("$tool")
	done
	[ -x /usr/lib/cni/bridge ] || lacks+=("the CNI plugins")
	[ -e /dev/kmsg ] || lacks+=("/dev/kmsg, which kubelet reads")
	controllers=$(missing_controllers)
	[ -z "$controllers" ] || lacks+=("these controllers of cgroups: ${controllers% }")
	[ ${#lacks[@]} -eq 0 ] || return 0
	trial || lacks+=("namespaces that will do: $complaint")
}

# trial does what boot.sh does before any program runs, beside a cluster if one runs,
# and leaves in complaint what went wrong.
trial() {
	local dir status=0
	mkdir -p "$cache"
	dir=$(mktemp -d "$cache/trial-XXXXXX")
	complaint=$({ cgroup && RUN=$dir "${namespaces[@]}" "$HERE/boot.sh" --trial; } 2>&1) || status=$?
	rm -rf "$dir"
	[ ! -d $own_cgroup ] || sweep # only this one is surely nobody's any more
	return $status
}

report() {
	local list
	printf -v list '%s, ' "${lacks[@]}"
	say "a cluster cannot run here: no ${list%, } (packages: $PACKAGES)"
	exit 1
}

programs() {
	local name
	exec 9>"$(lockfile)"
	for name in kubectl kubelet kube-controller-manager kube-scheduler kube-proxy; do
		is $name $kubernetes || { alone 9; build $name $kubernetes "$(kubernetes_flags)" k8s.io/kubernetes/cmd/$name; }
	done
	exec 9>&-
	"${bound[@]}" "$root/hack/kube/assets.sh" >/dev/null
}

# finish runs at the end, also at that by a signal, and must not be cut short.
# Unless the cluster ended by itself, status is still what SIGTERM makes it.
child='' alarm='' status=143
finish() {
	trap '' INT TERM HUP
	[ -z "$alarm" ] || kill "$alarm" 2>/dev/null || true
	[ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
	wait 2>/dev/null || true
	sweep
	if [ $status -ne 0 ] && [ -n "${LOGS:-}" ]; then
		rm -rf "$LOGS"
		mv "$RUN/log" "$LOGS"
	fi
	tidy
	exit $status
}

tidy() { rm -rf "$RUN"/{conf,containerd,etcd,kubelet,pki}; }

check
[ ${#lacks[@]} -eq 0 ] || report
[ "${1:-}" != check ] || exit 0
programs
[ "${1:-}" != build ] || exit 0
[ -n "${IMAGES:-}" ] || { say "IMAGES must be a directory of image tars"; exit 1; }
BIN=$("$root/hack/kube/assets.sh" --no-build):$bin
export IMAGES

# The processes of two would share cgroups. They inherit the descriptor, so the lock
# is free when the last of them has ended, though cluster.sh was killed.
exec 8>"$cache/cluster.lock"
flock -n 8 || { say "waiting for another cluster"; "${bound[@]}" flock 8; }
trap finish EXIT
sweep
tidy
rm -rf "$RUN/log"
mkdir -p "$RUN/log"
ulimit -n "$(ulimit -Hn)"
cgroup
"${namespaces[@]}" "$HERE/boot.sh" "$@" &
child=$!
"${bound[@]}" sleep "${LIMIT:-infinity}" 8>&- &
alarm=$!
wait -n -p ended $child $alarm && status=0 || status=$?
[ "${ended:-}" != $alarm ] || { say "not done after $LIMIT"; status=124; }
