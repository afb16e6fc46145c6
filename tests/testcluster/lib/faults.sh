# shellcheck shell=bash
# What goes wrong in a real cluster.

# Packets are dropped silently, as with a dead machine or a partition: else a dead pod's address would answer
# "connection refused", which no client may rely on. To add what is there already changes nothing.
firewall() {
    inside nft -f - <<N
add table inet testcluster
add set inet testcluster cut { type ipv4_addr; }
add set inet testcluster split { type ipv4_addr . ipv4_addr; }
add chain inet testcluster forward { type filter hook forward priority -300; }
add chain inet testcluster output { type filter hook output priority -300; }
add chain inet testcluster input { type filter hook input priority -300; }
flush chain inet testcluster forward
flush chain inet testcluster output
flush chain inet testcluster input
add rule inet testcluster forward ip saddr @cut drop
add rule inet testcluster forward ip daddr @cut drop
add rule inet testcluster forward ip saddr . ip daddr @split drop
add rule inet testcluster output ip daddr @cut drop
add rule inet testcluster input ip saddr @cut drop
N
}

cut_pods() {
    firewall
    for ip in "$@"; do inside nft add element inet testcluster cut "{ $ip }"; done
}

uncut_pods() { for ip in "$@"; do inside nft delete element inet testcluster cut "{ $ip }" 2>/dev/null || true; done; }

split_pods() {
    firewall
    for a in ${1//,/ }; do
        for b in ${2//,/ }; do inside nft add element inet testcluster split "{ $a . $b, $b . $a }"; done
    done
}

heal() { inside nft delete table inet testcluster 2>/dev/null || true; }

reuse() { rm -f "$dir"/ipam/testcluster/last_reserved_ip.*; }

# The kubelet, containerd, its shims and every process in the node's control groups end without being asked.
crash() {
    end "kubelet-$1"
    end "containerd-$1"
    for process in /proc/[0-9]*; do
        if { tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null | grep -q "^[^ ]*containerd-shim.* $dir/node-$1/run/containerd.sock"; then
            kill -9 "${process#/proc/}" 2>/dev/null || true
        fi
    done
    for _ in $(seq 50); do # a process that still dies holds its mounts, namespaces and groups
        processes_of_node "$1" | xargs -r kill -9 2>/dev/null || true
        [ -n "$(processes_of_node "$1")" ] || return 0
        sleep 0.1
    done
}

processes_of_node() {
    find /sys/fs/cgroup -path "*/testcluster-$id-$1/*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u
}

kill_node() {
    local ips
    ips=$(inside "$bin/kubectl" get pods -A --field-selector "spec.nodeName=node-$1" -o 'jsonpath={.items[*].status.podIP}')
    echo "$ips" >"$dir/node-$1/cut"
    # shellcheck disable=SC2086
    cut_pods $ips
    crash "$1"
}

# What a boot does: nothing in /run survives, disks do.
start_node() {
    crash "$1"
    unmount_below "$dir/node-$1"
    rm -rf --one-file-system "$dir/node-$1/run"
    # shellcheck disable=SC2046
    uncut_pods $(cat "$dir/node-$1/cut" 2>/dev/null)
    start_kubelet "$1"
}
