# shellcheck shell=bash
# A node: containerd and kubelet, with a folder and control groups of their own.

containerd_config() { # containerd_config FOLDER
    cat <<T
version = 2
root = "$1/containerd"
state = "$1/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$1/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/testcluster/pause:1"
  restrict_oom_score_adj = true # hosts that drop CAP_SYS_RESOURCE
  netns_mounts_under_state_dir = true # so that the pods' namespaces end with the node's folder
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
T
}

kubelet_config() { # kubelet_config I FOLDER
    cat <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 10.201.0.$1
cgroupDriver: cgroupfs
cgroupRoot: /testcluster-$id-$1
failCgroupV1: false
failSwapOn: false
authentication: {x509: {clientCAFile: $dir/pki/ca.crt}, webhook: {enabled: true}, anonymous: {enabled: false}}
authorization: {mode: Webhook}
tlsCertFile: $dir/pki/node-$1.crt
tlsPrivateKeyFile: $dir/pki/node-$1.key
clusterDomain: cluster.local
clusterDNS: [$control_plane_ip]
resolvConf: $dir/resolv.conf
containerRuntimeEndpoint: unix://$2/run/containerd.sock
podLogsDir: $2/podlogs
volumePluginDir: $2/volumeplugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
registryPullQPS: 0
serializeImagePulls: false
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
healthzPort: 0
shutdownGracePeriod: 0s
Y
}

control_groups() { # control_groups I: in every hierarchy of version 1, or in the one of version 2
    local group=testcluster-$id-$1 root=/sys/fs/cgroup
    if [ -e $root/cgroup.controllers ]; then
        for controller in $(cat $root/cgroup.controllers); do
            echo "+$controller" >$root/cgroup.subtree_control || true
        done
        mkdir -p "$root/$group"
        return
    fi
    for hierarchy in $root/*/; do [ ! -e "$hierarchy/cgroup.procs" ] || mkdir -p "$hierarchy/$group"; done
    for set in cpus mems; do cat "$root/cpuset/cpuset.$set" >"$root/cpuset/$group/cpuset.$set"; done
}

start_kubelet() { # start_kubelet I: and its containerd
    local i=$1 folder=$dir/node-$1
    mkdir -p "$folder/run"
    kubeconfig "node-$i" "$folder/kubelet.kubeconfig"
    containerd_config "$folder" >"$folder/containerd.toml"
    kubelet_config "$i" "$folder" >"$folder/kubelet.yaml"
    control_groups "$i"
    start "containerd-$i" containerd --config "$folder/containerd.toml"
    wait_for 30 "containerd-$i" ctr -a "$folder/run/containerd.sock" version
    ctr -a "$folder/run/containerd.sock" -n k8s.io images import "$bin/pause.tar" >/dev/null
    start "kubelet-$i" "$bin/kubelet" --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubelet.kubeconfig" \
        --root-dir="$folder/kubelet" --cert-dir="$folder/run" --hostname-override="node-$i" --node-ip="10.201.0.$i" \
        --node-labels="topology.kubernetes.io/zone=zone-$i" --v=2
}
