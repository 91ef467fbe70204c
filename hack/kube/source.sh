# Sourced by the scripts beside it: where built programs are, in which version,
# and how one is built from source.

# Versions of the go.mod files in module, helm, prometheus and operator.
kubernetes=v1.37.2
etcd=v3.7.0
helm=v4.3.1
prometheus=v0.316.0
operator=v0.85.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${FERRUM_KUBE_CACHE:-$HOME/.cache/ferrum-kube}
bin=$cache/bin

# "${bound[@]}" COMMAND... - COMMAND ends when this script does, however that ends.
bound=()
! command -v setpriv >/dev/null || bound=(setpriv --pdeathsig KILL)

say() { echo "${0##*/}: $*" >&2; }

# is NAME VERSION - was this binary built in this version?
is() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.version" 2>/dev/null)" = "$2" ]; }

# lockfile prints the file that builds lock.
lockfile() { mkdir -p "$cache" && echo "$cache/lock"; }

# alone DESCRIPTOR - waits for other builds: two at once take the cores from each
# other. The lock goes with the descriptor.
alone() {
	command -v flock >/dev/null || return 0
	flock -n "$1" || { say "waiting for another build"; flock "$1"; }
}

# build NAME VERSION LDFLAGS PACKAGE [MODULE-DIRECTORY [TAGS]]
build() {
	is "$1" "$2" && return
	local from=$SECONDS
	say "building $1 $2 from source"
	mkdir -p "$bin"
	# GOFLAGS of the caller (-mod=mod, -race) would change another module or miss
	# its build cache.
	CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off \
		${bound[@]+"${bound[@]}"} go build -C "${5:-$root/hack/kube/module}" -mod=readonly -trimpath -tags "${6:-}" -ldflags "-s -w $3" -o "$bin/$1" "$4"
	echo "$2" >"$bin/.$1.version"
	say "built $1 in $((SECONDS - from)) s"
}

# Without these Kubernetes programs report v0.0.0, and clients that look at the
# version go wrong.
kubernetes_flags() {
	local minor=${kubernetes#v1.} base=k8s.io/component-base/version client=k8s.io/client-go/pkg/version package
	minor=${minor%.*}
	for package in $base $client; do
		printf ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s' $package $kubernetes $package $package "$minor"
	done
	printf ' -X %s.gitTreeState=clean' $base
}
