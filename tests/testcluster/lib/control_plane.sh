# shellcheck shell=bash
# Network, certificates, and everything that is not a node.

network() {
    inside ip link set lo up
    inside sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1
    inside ip link add nodes type bridge
    for i in $(seq "$nodes"); do inside ip addr add "10.201.0.$i/16" dev nodes; done
    inside ip link set nodes up
    inside ip route replace default dev nodes
    # Pods are joined point to point: a bridge would need br_netfilter for Services.
    cat >"$dir/cni/10-testcluster.conflist" <<Y
{"cniVersion": "1.0.0", "name": "testcluster", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "$dir/ipam", "routes": [{"dst": "0.0.0.0/0"}],
    "ranges": [[{"subnet": "$pod_cidr", "rangeStart": "10.201.1.1", "gateway": "10.201.0.254"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y
    echo "nameserver 127.0.0.1" >"$dir/resolv.conf" # for pods with the node's own DNS
}

certificate() { # certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}

certificates() {
    local names="DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost"
    mkdir -p "$dir/pki"
    (
        cd "$dir/pki"
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -days 3650 -subj /CN=testcluster-ca -out ca.crt
        openssl genrsa -out service-accounts.key 2048 2>/dev/null
        openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
        certificate apiserver /CN=kube-apiserver "$names,IP:127.0.0.1,IP:$control_plane_ip,IP:10.202.0.1"
        certificate admin /O=system:masters/CN=admin
        certificate controller-manager /CN=system:kube-controller-manager
        certificate scheduler /CN=system:kube-scheduler
        certificate proxy /CN=system:kube-proxy
        for i in $(seq "$nodes"); do
            certificate "node-$i" "/O=system:nodes/CN=system:node:node-$i" "DNS:node-$i,IP:10.201.0.$i,IP:127.0.0.1"
        done
    )
    for user in admin controller-manager scheduler proxy; do kubeconfig "$user" "$dir/$user.kubeconfig"; done
}

kubeconfig() { # kubeconfig USER FILE
    cat >"$2" <<Y
apiVersion: v1
kind: Config
clusters: [{name: testcluster, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $dir/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $dir/pki/$1.crt, client-key: $dir/pki/$1.key}}]
contexts: [{name: testcluster, context: {cluster: testcluster, user: $1}}]
current-context: testcluster
Y
}

control_plane() {
    start etcd "$bin/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster default=http://127.0.0.1:2380
    # Who asked for what, and how often: for the tests of least privilege and of quiet reconcile loops.
    cat >"$dir/audit.yaml" <<Y
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
Y
    start kube-apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
        --secure-port=6443 --bind-address=0.0.0.0 --advertise-address="$control_plane_ip" --endpoint-reconciler-type=master-count \
        --service-cluster-ip-range="$service_cidr" --authorization-mode=Node,RBAC --allow-privileged=true --cert-dir="$dir/run" \
        --client-ca-file="$dir/pki/ca.crt" --tls-cert-file="$dir/pki/apiserver.crt" --tls-private-key-file="$dir/pki/apiserver.key" \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$dir/pki/service-accounts.pub" \
        --service-account-signing-key-file="$dir/pki/service-accounts.key" \
        --kubelet-client-certificate="$dir/pki/admin.crt" --kubelet-client-key="$dir/pki/admin.key" \
        --kubelet-certificate-authority="$dir/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --audit-policy-file="$dir/audit.yaml" --audit-log-path="$dir/log/audit.log"
    wait_for 60 kube-apiserver inside "$bin/kubectl" get --raw /readyz
    start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$dir/controller-manager.kubeconfig" \
        --service-account-private-key-file="$dir/pki/service-accounts.key" --use-service-account-credentials=true \
        --root-ca-file="$dir/pki/ca.crt" --cluster-signing-cert-file="$dir/pki/ca.crt" --cluster-signing-key-file="$dir/pki/ca.key" \
        --leader-elect=false --cert-dir="$dir/run" --bind-address=127.0.0.1 --node-monitor-grace-period="${NODE_GRACE:-20}s"
    start kube-scheduler "$bin/kube-scheduler" --kubeconfig="$dir/scheduler.kubeconfig" --leader-elect=false \
        --cert-dir="$dir/run" --bind-address=127.0.0.1
}

# Service addresses, DNS and volumes: one of each is enough, as all nodes share the network namespace.
services() {
    start kube-proxy "$bin/kube-proxy" --kubeconfig="$dir/proxy.kubeconfig" --proxy-mode=nftables --hostname-override=node-1 \
        --cluster-cidr="$pod_cidr" --conntrack-max-per-core=0 --bind-address="$control_plane_ip"
    dns 0
    inside "$bin/kubectl" apply -f - >/dev/null <<Y
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: directory, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: testcluster.local/directory
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local} # stays on its node, is lost with it, and cannot grow
provisioner: testcluster.local/directory
volumeBindingMode: WaitForFirstConsumer
Y
    start provisioner "$bin/provisioner" "$KUBECONFIG" "$dir/volumes"
}

dns() { # dns SECONDS: of caching
    end coredns
    local cache=""
    [ "$1" = 0 ] || cache="cache $1"
    cat >"$dir/Corefile" <<Y
.:53 {
  bind $control_plane_ip
  errors
  $cache
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $dir/admin.kubeconfig testcluster
    pods insecure
    ttl 30
  }
}
Y
    start coredns "$bin/coredns" -conf "$dir/Corefile"
}
