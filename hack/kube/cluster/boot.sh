#!/usr/bin/env bash
# boot.sh --trial | COMMAND... - the part of ../cluster.sh inside its namespaces:
# private mounts, the node's network, certificates, the processes, COMMAND. It is
# process 1 there, so everything ends with it. "--trial" ends before the certificates,
# after a look at what the kernel gives the processes.
set -euo pipefail
source "$HERE/cgroups.sh"

node=node1
node_ip=198.18.0.1    # 198.18.0.0/15 is for test beds (RFC 2544)
client_net=198.18.64  # .1 the node, .2 the world outside
pods=198.18.128.0/20
services=198.19.0.0/16
api_service=198.19.0.1
dns_service=198.19.0.10
pki=$RUN/pki
export PATH=$BIN:$PATH KUBECONFIG=$pki/admin.conf CONTAINERD_ADDRESS=/run/lab/containerd.sock
begin=$EPOCHREALTIME

say() {
	local now=$EPOCHREALTIME
	printf '[cluster %5d ms] %s\n' $(((${now/./} - ${begin/./}) / 1000)) "$*" >&2
}

# until SECONDS COMMAND... - tries COMMAND until it succeeds.
until_ok() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			say "gave up: $*"
			return 1
		fi
		sleep 0.1
	done
}

start() { # NAME COMMAND...
	local name=$1
	shift
	"$@" >"$RUN/log/$name.log" 2>&1 &
	echo $! >"$RUN/log/$name.pid"
}

# Nothing that the node's programs write may reach the machine: cgroups start at one
# of the cluster's, and the paths that no option moves are empty.
mounts() {
	local setting file d resolv
	mount_cgroups
	mount --make-rshared /
	resolv=$(readlink -m /etc/resolv.conf) # may be a link into /run
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -p /run/netns
	printf 'nameserver %s\nsearch svc.cluster.local cluster.local\n' $dns_service >/run/lab-resolv.conf
	case $resolv in
	/run/*) mkdir -p "${resolv%/*}" && cp /run/lab-resolv.conf "$resolv" ;;
	*) [ ! -e "$resolv" ] || mount --bind /run/lab-resolv.conf "$resolv" ;;
	esac
	# kubelet sets these, which belong to no namespace; it leaves alone what has
	# the value that it wants.
	for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
		kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
		file=/run/sysctl-${setting//[\/=]/-}
		echo "${setting#*=}" >"$file"
		[ ! -e "/proc/sys/${setting%=*}" ] || mount --bind "$file" "/proc/sys/${setting%=*}"
	done
	for d in /var/lib/kubelet /var/lib/cni /var/log/containers; do
		mkdir -p $d
		mount -t tmpfs tmpfs $d
	done
	mount --make-rshared /var/lib/kubelet
	mount --make-rshared /run
}

# The kernel need not have dummy devices: a veth pair carries the node's address.
network() {
	ip link set lo up
	ip link add node0 type veth peer name node0p
	ip addr add $node_ip/24 dev node0
	ip link set node0 up
	ip link set node0p up
	ip route add $services dev node0 # there is no default route
	echo 1 >/proc/sys/net/ipv4/ip_forward
	echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
	{ echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; } 2>/dev/null || true # no such bridge module, no need
	ip netns add client
	ip link add client0 type veth peer name eth0 netns client
	ip addr add $client_net.1/24 dev client0
	ip link set client0 up
	ip -n client link set lo up
	ip -n client addr add $client_net.2/24 dev eth0
	ip -n client link set eth0 up
	ip -n client route add default via $client_net.1
}

# trial asks the kernel for what containerd, the CNI plugins and kube-proxy will.
trial() {
	mkdir "$RUN"/{lower,upper,work,merged}
	mount -t overlay -o "lowerdir=$RUN/lower,upperdir=$RUN/upper,workdir=$RUN/work" overlay "$RUN/merged" ||
		echo "$RUN is no place for overlays; FERRUM_KUBE_CACHE names another" >&2
	umount "$RUN/merged"
	ip link add cni0 type bridge
	nft -f - <<-END
		add table ip trial
		add chain ip trial nat { type nat hook prerouting priority dstnat; }
		add rule ip trial nat fib daddr type local numgen random mod 2 vmap { 0 : accept, 1 : drop }
	END
}

certificate() { # NAME SUBJECT [ALTERNATIVE-NAMES]
	openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
	openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" -extfile <(
		printf 'keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}"
	)
}

certificates() (
	cd "$pki"
	exec 2>openssl.log
	openssl ecparam -genkey -name prime256v1 -noout -out ca.key
	openssl req -x509 -new -key ca.key -subj /CN=ca -days 30 -out ca.crt
	openssl genrsa -out sa.key 2048
	openssl rsa -in sa.key -pubout -out sa.pub
	certificate apiserver /CN=kube-apiserver "DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:$node_ip,IP:$api_service"
	certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
	certificate kubelet /O=system:nodes/CN=system:node:$node "DNS:$node,IP:$node_ip,IP:127.0.0.1"
	certificate admin /O=system:masters/CN=admin
	certificate kube-controller-manager /CN=system:kube-controller-manager
	certificate kube-scheduler /CN=system:kube-scheduler
	certificate kube-proxy /CN=system:kube-proxy
	local user
	for user in kubelet admin kube-controller-manager kube-scheduler kube-proxy; do
		cat >$user.conf <<-END
			apiVersion: v1
			kind: Config
			current-context: node
			clusters: [{name: node, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $pki/ca.crt}}]
			users: [{name: user, user: {client-certificate: $pki/$user.crt, client-key: $pki/$user.key}}]
			contexts: [{name: node, context: {cluster: node, user: user}}]
		END
	done
)

apiserver() {
	start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
		--bind-address=0.0.0.0 --advertise-address=$node_ip --secure-port=6443 --service-cluster-ip-range=$services \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
		--client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
		--kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
		--kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
		--service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
		--service-account-issuer=https://kubernetes.default.svc.cluster.local
}

control_plane() {
	start etcd etcd --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
		--initial-cluster default=http://127.0.0.1:2380
	apiserver
	until_ok 120 kubectl get --raw /readyz
	# The only node is there as long as the cluster is. After an outage of the API server
	# its heartbeats may be seen again a minute late, and Pods of a node that is given up
	# get no traffic.
	start kube-controller-manager kube-controller-manager --bind-address=127.0.0.1 --leader-elect=false \
		--node-monitor-grace-period=1h \
		--kubeconfig="$pki/kube-controller-manager.conf" \
		--authentication-kubeconfig="$pki/kube-controller-manager.conf" --authorization-kubeconfig="$pki/kube-controller-manager.conf" \
		--service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --use-service-account-credentials=true \
		--cluster-cidr=$pods --allocate-node-cidrs=false --service-cluster-ip-range=$services \
		--flex-volume-plugin-dir="$RUN/kubelet/volumeplugins"
	start kube-scheduler kube-scheduler --bind-address=127.0.0.1 --leader-elect=false --kubeconfig="$pki/kube-scheduler.conf" \
		--authentication-kubeconfig="$pki/kube-scheduler.conf" --authorization-kubeconfig="$pki/kube-scheduler.conf"
}

the_node() {
	local tar
	until_ok 120 ctr version
	for tar in "$IMAGES"/*.tar; do
		ctr -n k8s.io images import "$tar" >>"$RUN/log/import.log" 2>&1
	done
	say "images are in"
	start kubelet kubelet --config="$RUN/conf/kubelet.yaml" --kubeconfig="$pki/kubelet.conf" --hostname-override=$node \
		--node-ip=$node_ip --root-dir="$RUN/kubelet" --cert-dir="$pki"
	start kube-proxy kube-proxy --config="$RUN/conf/kube-proxy.yaml"
	until_ok 120 kubectl wait --for=condition=Ready node/$node --timeout=1s
	until_ok 120 kubectl get serviceaccount default # without it Pods are refused
}

mounts
network
if [ "$1" = --trial ]; then
	trial
	exit
fi
mkdir -p "$pki" "$RUN"/{log,etcd,containerd,kubelet,conf/cni}
for f in containerd.toml kubelet.yaml kube-proxy.yaml cni/10-bridge.conflist; do
	sed "s#@RUN@#$RUN#g; s#@DNS@#$dns_service#g; s#@PODS@#$pods#g; s#@NODE@#$node#g" "$HERE/$f" >"$RUN/conf/$f"
done
certificates
start containerd containerd --config "$RUN/conf/containerd.toml"
control_plane
say "the control plane answers"
the_node
say "the node is ready"
status=0
"$@" || status=$?
exit $status
