# Sourced by ../cluster.sh and boot.sh: control groups. A machine has version 1, with
# a hierarchy for each controller or a few together, or version 2, with one for all.
#
# Of version 1 the cluster sees what is below the caller's own cgroup in each
# hierarchy. Version 2 gives controllers only to the children of a cgroup that has
# no processes, so there the cluster gets one of its own, beneath the machine's root:
#
#	/sys/fs/cgroup/ferrum-kube.PID            the root, as the cluster sees it
#	/sys/fs/cgroup/ferrum-kube.PID/node       boot.sh and the node's programs
#	/sys/fs/cgroup/ferrum-kube.PID/kubepods   kubelet's: the Pods

# What kubelet and runc do not start without.
needed_v1="cpu cpuacct cpuset memory devices pids"
needed_v2="cpu cpuset memory pids"

# hierarchies prints what each of version 1 has: "memory", "cpu,cpuacct", "name=systemd".
hierarchies() { sed -n 's/^[1-9][0-9]*:\([^:]*\):.*/\1/p' /proc/self/cgroup; }

# cgroup_version prints 1 or 2. Where both are mounted, controllers are in 1.
cgroup_version() {
	if [[ ,$(hierarchies | tr '\n' ,) == *,memory,* ]]; then
		echo 1
	elif [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then
		echo 2
	else
		return 1
	fi
}

# missing_controllers prints what the machine lacks.
missing_controllers() {
	local has needed controller
	case $(cgroup_version) in
	1) has=$(hierarchies) needed=$needed_v1 ;;
	2) has=$(cat /sys/fs/cgroup/cgroup.controllers) needed=$needed_v2 ;;
	*) echo "all" && return ;;
	esac
	has=" ${has//[$',\n']/ } "
	for controller in $needed; do
		[[ $has == *" $controller "* ]] || printf '%s ' "$controller"
	done
}

# give DIRECTORY - lets the children of a cgroup of version 2 have its controllers.
give() {
	local controller
	for controller in $(cat "$1/cgroup.controllers"); do
		{ echo "+$controller" >"$1/cgroup.subtree_control"; } 2>/dev/null || true
	done
	for controller in $needed_v2; do
		[[ " $(cat "$1/cgroup.subtree_control") " == *" $controller "* ]] || return 1
	done
}

# make_cgroup DIRECTORY - makes the cluster's cgroup of version 2. The root of a
# machine may have processes; that of a container, which has a type, may not. So they
# move into a child and stay there, and before any controller is given: the first
# would make the root one of threads, whose children take no processes.
make_cgroup() {
	local root=${1%/*} pid
	for _ in 1 2 3; do # new ones may begin meanwhile
		[ -e "$root/cgroup.type" ] || break
		for pid in $(cat "$root/cgroup.procs"); do
			mkdir -p "$root/init"
			{ echo "$pid" >"$root/init/cgroup.procs"; } 2>/dev/null || true # may be gone
		done
	done
	give "$root" || {
		say "the controllers that a cluster needs ($needed_v2) cannot be given to a cgroup below $root, which gives: $(cat "$root/cgroup.subtree_control")"
		return 1
	}
	mkdir "$1"
}

# mount_cgroups shows only what belongs to the namespace of cgroups.
mount_cgroups() {
	local version each name controller
	version=$(cgroup_version)
	umount -lR /sys/fs/cgroup || true
	if [ "$version" = 2 ]; then
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		mkdir /sys/fs/cgroup/node
		echo $$ >/sys/fs/cgroup/node/cgroup.procs
		give /sys/fs/cgroup
		return
	fi
	mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
	for each in $(hierarchies); do
		name=${each#name=}
		mkdir "/sys/fs/cgroup/$name"
		if [ "$name" = "$each" ]; then
			mount -t cgroup -o "$each" cgroup "/sys/fs/cgroup/$name"
		else
			mount -t cgroup -o "none,$each" cgroup "/sys/fs/cgroup/$name"
		fi
		for controller in ${name//,/ }; do
			[ -e "/sys/fs/cgroup/$controller" ] || ln -s "$name" "/sys/fs/cgroup/$controller"
		done
	done
}

# left_cgroups prints the directories that clusters may leave: they outlive the
# namespaces.
left_cgroups() {
	local _ each path dir
	case $(cgroup_version) in
	1)
		while IFS=: read -r _ each path; do
			echo "/sys/fs/cgroup/${each#name=}${path%/}/kubepods"
		done </proc/self/cgroup
		;;
	2)
		for dir in /sys/fs/cgroup/ferrum-kube.*; do
			[ "${dir##*.}" != $$ ] && [ -d "/proc/${dir##*.}" ] || echo "$dir"
		done
		;;
	esac
}

# sweep removes them; a process that was killed may need a moment to leave its own.
sweep() {
	local dir left
	for _ in {1..30}; do
		left=
		for dir in $(left_cgroups); do
			[ -d "$dir" ] || continue
			find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
			[ ! -d "$dir" ] || left=$dir
		done
		[ -n "$left" ] || return 0
		sleep 0.1
	done
	say "cannot remove the cgroup $left"
}
